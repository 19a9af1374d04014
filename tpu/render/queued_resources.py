"""TPU VMs by gcloud queued resources: one shell script that keeps every job alive.

A spot slice that is taken away stays SUSPENDED for ever: the script deletes it, asks for another
and runs the same command again. It must itself stay alive, in tmux or on a small machine.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tpu import storage
from tpu.errors import LaunchError
from tpu.plan import Job, Options

KINDS = ("tpu",)
SPOT = True
BUCKET = True
TOOL = "gcloud"
NEEDS = {"zone": "us-central1-a"}
QUEUES = False

SCRIPT = r"""#!/usr/bin/env bash
# Usage: bash {file}   (from the root of the checkout; it ends when all jobs have)
set -uo pipefail

ACCELERATOR={accelerator}
RUNTIME={runtime}
WHERE=({where})
CREATE=({create})
BUCKET={bucket}
MOUNT={mount}
MAX_RESTARTS={max_restarts}
POLL_SECONDS=${{POLL_SECONDS:-30}}
SOURCE=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$SOURCE"' EXIT
tar --exclude=.git --exclude=.venv --exclude=results -czf "$SOURCE" .

say() {{ echo "$(date -u +%FT%TZ) $*"; }}
resource() {{ gcloud compute tpus queued-resources "$@" "${{WHERE[@]}}"; }}

state() {{
  resource describe "$1" --format='value(state.state)' 2>/dev/null || echo ABSENT
}}

create() {{
  resource create "$1" --node-id="$1" --accelerator-type="$ACCELERATOR" \
    --runtime-version="$RUNTIME" "${{CREATE[@]}}"
}}

delete() {{
  resource delete "$1" --force --quiet
}}

# Return once the slice is up; ask again for one that failed or was taken away.
await_active() {{
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
}}

on_all_hosts() {{
  gcloud compute tpus tpu-vm ssh "$1" --worker=all "${{WHERE[@]}}" --command="$2"
}}

# The code, Python with rlx, and the bucket: on every host, again after a re-creation.
prepare() {{
  gcloud compute tpus tpu-vm scp "$SOURCE" "$1:rlx.tar.gz" --worker=all "${{WHERE[@]}}" &&
    on_all_hosts "$1" "$PREPARE"
}}

PREPARE={prepare}

run() {{
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
}}

names=() pids=()
launch() {{
  run "$@" </dev/null &
  pids+=($!) names+=("$1")
}}

# Nobody would watch the slices any more: delete them, a relaunch goes on from the checkpoints.
stop() {{
  kill "${{pids[@]}}" 2>/dev/null
  for name in "${{names[@]}}"; do delete "$name" & done
  wait
  exit 143
}}
trap stop TERM INT

{runs}

failed=0
for pid in "${{pids[@]}}"; do
  wait "$pid" || failed=1
done
exit "$failed"
"""

PREPARE = """set -e
mkdir -p rlx && tar -xzf rlx.tar.gz -C rlx
if ! command -v gcsfuse >/dev/null; then
  key=/usr/share/keyrings/cloud.google.asc packages=https://packages.cloud.google.com/apt
  curl -fsSL "$packages/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $packages gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get -qq update && sudo apt-get -qq install -y gcsfuse
fi
sudo mkdir -p {mount} && sudo chown "$USER" {mount}
mountpoint -q {mount} || gcsfuse {options} {bucket} {mount}
python3 -m pip install --quiet --user uv
cd rlx
python3 -m uv venv --quiet --allow-existing --python 3.12 .venv
python3 -m uv pip install --quiet --python .venv/bin/python -e '.[tpu]'
"""

# If only the connection broke, the worker of the last attempt still holds the chips: end it first.
START = """cd rlx && . .venv/bin/activate
while kill -TERM "$(cat ../rlx.pid 2>/dev/null)" 2>/dev/null; do sleep 5; done
echo $$ > ../rlx.pid
exec env {environment} {command}"""


def check(options: Options) -> None:
    """Refuse what has no TPU VMs, and slices that would not know of each other."""
    if not options.accelerator.runtime:
        raise LaunchError(
            f"accelerator '{options.accelerator.name}' has no TPU VMs, only GKE; "
            "use backend xpk or jobset"
        )
    if options.slices > 1:
        raise LaunchError(
            f"--slices={options.slices}: queued_resources starts one slice per job; "
            "use xpk or jobset"
        )


def render(jobs: Sequence[Job], options: Options) -> dict[str, str]:
    """Return one script for all jobs, which run side by side."""
    where = {"zone": options.zone, "project": options.project}
    bucket = storage.bucket_of(options.workdir)
    mount_options = " ".join(f"--{option}" for option in storage.MOUNT_OPTIONS.split(","))
    text = SCRIPT.format(
        file=_file(options),
        accelerator=options.accelerator.name,
        runtime=options.accelerator.runtime,
        where=shlex.join(f"--{name}={value}" for name, value in where.items() if value),
        create="--spot" if options.spot else "",
        bucket=shlex.quote(bucket),
        mount=storage.MOUNT,
        max_restarts=options.max_restarts,
        prepare=shlex.quote(
            PREPARE.format(mount=storage.MOUNT, options=mount_options, bucket=shlex.quote(bucket))
        ),
        runs="\n".join(_run(job) for job in jobs),
    )
    return {_file(options): text}


def commands(jobs: Sequence[Job], options: Options, folder: Path) -> list[list[str]]:
    """Return the command that runs the script, which ends with the last job."""
    del jobs
    return [["bash", str(folder / _file(options))]]


def _file(options: Options) -> str:
    return f"{options.name}.sh"


def _run(job: Job) -> str:
    environment = shlex.join(f"{name}={value}" for name, value in job.env.items())
    command = START.format(environment=environment, command=shlex.join(job.argv))
    return f"launch {job.name} {shlex.quote(command)}"
