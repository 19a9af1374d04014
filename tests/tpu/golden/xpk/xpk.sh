#!/usr/bin/env bash
set -uo pipefail
failed=()

xpk storage attach rlx-our-runs --cluster=pods --project=lab --zone=us-central1-a --type=gcsfuse --bucket=our-runs --mount-point=/mnt/rlx --mount-options=implicit-dirs,rename-dir-limit=10000 --size=1 --readonly=false --auto-mount=false || exit 1

xpk workload create --cluster=pods --project=lab --zone=us-central1-a --workload=sac-utd-1-415451 --tpu-type=v5litepod-16 --num-slices=1 --docker-image=gcr.io/lab/rlx:1 --storage=rlx-our-runs --max-restarts=50 --termination-grace-period-seconds=180 --env=JAX_PLATFORMS=tpu,cpu --spot '--command=exec python -m experiments.scaling_laws --config=configs/scaling_laws.py:wide --seed=0,1,2 --config.train.utd=1.0 --workdir=/mnt/rlx/sweeps/first/sac-utd-1-415451' ||
  failed+=(sac-utd-1-415451)
xpk workload create --cluster=pods --project=lab --zone=us-central1-a --workload=sac-utd-2-3ed2f9 --tpu-type=v5litepod-16 --num-slices=1 --docker-image=gcr.io/lab/rlx:1 --storage=rlx-our-runs --max-restarts=50 --termination-grace-period-seconds=180 --env=JAX_PLATFORMS=tpu,cpu --spot '--command=exec python -m experiments.scaling_laws --config=configs/scaling_laws.py:wide --seed=0,1,2 --config.train.utd=2.0 --workdir=/mnt/rlx/sweeps/first/sac-utd-2-3ed2f9' ||
  failed+=(sac-utd-2-3ed2f9)

if [ "${#failed[@]}" -gt 0 ]; then
  echo "error: not submitted: ${failed[*]}" >&2
  exit 1
fi
