#!/usr/bin/env bash
# Usage: bash sac.sh   (from the root of the checkout; it ends when all jobs have)
set -uo pipefail

ACCELERATOR=v5litepod-16
RUNTIME=v2-alpha-tpuv5-lite
WHERE=(--zone=us-central1-a --project=lab)
CREATE=(--spot)
BUCKET=our-runs
MOUNT=/mnt/rlx
MAX_RESTARTS=50
POLL_SECONDS=${POLL_SECONDS:-30}
SOURCE=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$SOURCE"' EXIT
tar --exclude=.git --exclude=.venv --exclude=results -czf "$SOURCE" .

say() { echo "$(date -u +%FT%TZ) $*"; }
resource() { gcloud compute tpus queued-resources "$@" "${WHERE[@]}"; }

state() {
  resource describe "$1" --format='value(state.state)' 2>/dev/null || echo ABSENT
}

create() {
  resource create "$1" --node-id="$1" --accelerator-type="$ACCELERATOR" \
    --runtime-version="$RUNTIME" "${CREATE[@]}"
}

delete() {
  resource delete "$1" --force --quiet
}

# Return once the slice is up; ask again for one that failed or was taken away.
await_active() {
  local name=$1 now refused=0
  while true; do
    now=$(state "$name")
    case "$now" in
      ACTIVE) return 0 ;;
      ABSENT)
        create "$name" || refused=$((refused + 1))
        if [ "$refused" -ge 10 ]; then
          say "$name: could not be created 10 times"
          return 1
        fi
        ;;
      FAILED | SUSPENDED) say "$name: $now"; delete "$name" ;;
      SUSPENDING | DELETING | ACCEPTED | CREATING | WAITING_FOR_RESOURCES | PROVISIONING) ;;
      *) say "$name: unknown state '$now'" ;;
    esac
    sleep "$POLL_SECONDS"
  done
}

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$1" --worker=all "${WHERE[@]}" --command="$2"
}

# The code, Python with rlx, and the bucket: on every host, again after a re-creation.
prepare() {
  gcloud compute tpus tpu-vm scp "$SOURCE" "$1:rlx.tar.gz" --worker=all "${WHERE[@]}" &&
    on_all_hosts "$1" "$PREPARE"
}

PREPARE='set -e
mkdir -p rlx && tar -xzf rlx.tar.gz -C rlx
if ! command -v gcsfuse >/dev/null; then
  key=/usr/share/keyrings/cloud.google.asc packages=https://packages.cloud.google.com/apt
  curl -fsSL "$packages/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $packages gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get -qq update && sudo apt-get -qq install -y gcsfuse
fi
sudo mkdir -p /mnt/rlx && sudo chown "$USER" /mnt/rlx
mountpoint -q /mnt/rlx || gcsfuse --implicit-dirs --rename-dir-limit=10000 our-runs /mnt/rlx
python3 -m pip install --quiet --user uv
cd rlx
python3 -m uv venv --quiet --allow-existing --python 3.12 .venv
python3 -m uv pip install --quiet --python .venv/bin/python -e '"'"'.[tpu]'"'"'
'

run() {
  local name=$1 command=$2 code=0 tries
  for ((tries = 0; tries <= MAX_RESTARTS; tries++)); do
    await_active "$name" || return 1
    say "$name: start $((tries + 1))"
    if prepare "$name"; then
      on_all_hosts "$name" "$command"
      code=$?
    else
      code=255
    fi
    say "$name: exit $code"
    # 42: saved and stopped; 127 and more: a signal, or the connection went with the slice.
    if [ "$code" -eq 42 ] || [ "$code" -ge 127 ]; then
      continue
    fi
    # Any other is the worker's own, unless the slice was taken away before gcloud could connect.
    [ "$code" -ne 0 ] || break
    case "$(state "$name")" in
      SUSPENDING | SUSPENDED | FAILED) say "$name: taken away" ;;
      *) break ;;
    esac
  done
  delete "$name"
  return "$code"
}

names=() pids=()
launch() {
  run "$@" </dev/null &
  pids+=($!) names+=("$1")
}

# Nobody would watch the slices any more: delete them, a relaunch goes on from the checkpoints.
stop() {
  kill "${pids[@]}" 2>/dev/null
  for name in "${names[@]}"; do delete "$name" & done
  wait
  exit 143
}
trap stop TERM INT

launch sac-utd-1-415451 'cd rlx && . .venv/bin/activate
while kill -TERM "$(cat ../rlx.pid 2>/dev/null)" 2>/dev/null; do sleep 5; done
echo $$ > ../rlx.pid
exec env JAX_PLATFORMS=tpu,cpu python -m experiments.scaling_laws --config=configs/scaling_laws.py:wide --seed=0,1,2 --config.train.utd=1.0 --workdir=/mnt/rlx/sweeps/first/sac-utd-1-415451'
launch sac-utd-2-3ed2f9 'cd rlx && . .venv/bin/activate
while kill -TERM "$(cat ../rlx.pid 2>/dev/null)" 2>/dev/null; do sleep 5; done
echo $$ > ../rlx.pid
exec env JAX_PLATFORMS=tpu,cpu python -m experiments.scaling_laws --config=configs/scaling_laws.py:wide --seed=0,1,2 --config.train.utd=2.0 --workdir=/mnt/rlx/sweeps/first/sac-utd-2-3ed2f9'

failed=0
for pid in "${pids[@]}"; do
  wait "$pid" || failed=1
done
exit "$failed"
