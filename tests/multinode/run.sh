#!/bin/bash
# Prove training on several hosts: torchrun and a hostfile over two "hosts" (see hosts.sh), one of
# them cut off in the middle, and the run resumed on the other alone, the same to the token.
# Needs Linux, root, ssh, sshd and pdsh (installed where apt is), and the project's .venv.
#
#   sudo tests/multinode/run.sh
#
# It leaves nothing running; its directory, printed first, holds the runs and what they said.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/tests/multinode/hosts.sh"
where=$(mktemp -d /tmp/tally-multinode.XXXXXX)
python=$root/.venv/bin/python
torchrun=$root/.venv/bin/torchrun
export OMP_NUM_THREADS=1 PYTHONPATH=$root CUDA_VISIBLE_DEVICES=
export DEEPSPEED_TIMEOUT=1 # minutes until a vanished host is noticed
echo "runs and logs: $where"
cd "$root"

install() {
  { command -v pdsh && [ -x /usr/sbin/sshd ]; } >/dev/null && return
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q openssh-server pdsh >/dev/null
}

tally_train=(-m tally train "$where/train.yaml" checkpoint.every_steps=20)

by_torchrun() { # HOST RANK_OF_HOST HOSTS RANKS RUN
  on_host "$1" "$torchrun" --nnodes "$3" --node-rank "$2" --nproc-per-node "$4" \
    --master-addr h1 --master-port 29511 "${tally_train[@]}" -o "$where/$5" \
    >>"$where/$5.$1.txt" 2>&1
}

by_hostfile() { # RUN HOST...
  printf '%s slots=1\n' "${@:2}" >"$where/hosts"
  on_host h1 "$python" "${tally_train[@]}" -o "$where/$1" --hostfile "$where/hosts" \
    launch.device=cpu >>"$where/$1.txt" 2>&1
}

steps() { wc -l 2>/dev/null <"$where/$1/metrics.jsonl" || echo 0; }

cut_after() { # RUN STEPS
  for _ in $(seq 600); do
    [ "$(steps "$1")" -ge "$2" ] && break
    sleep 0.05
  done
  cut_host h2
  cut_at=$(steps "$1")
}

cut_run() { # RUN COMMAND...: the command runs in the background while h2 is cut off
  local run=$1 began
  shift
  "$@" &
  local started=$!
  cut_after "$run" 90
  began=$SECONDS
  if wait $started; then
    echo "$run ended well although h2 was cut off at step $cut_at" >&2
    exit 1
  fi
  echo "$run: h2 cut off after $cut_at steps, noticed by h1 after $((SECONDS - began)) s"
  cp -r "$where/$run" "$where/$run-alone"
  join_host h2
}

two_by_torchrun() {
  by_torchrun h2 1 2 1 torchrun &
  by_torchrun h1 0 2 1 torchrun
}

install
trap remove_hosts EXIT
make_hosts 2
start_sshd
"$python" -m tests.multinode.prepare "$where"

on_host h1 "$python" "${tally_train[@]}" -o "$where/whole" --ranks 2 >"$where/whole.txt" 2>&1
echo "whole: one host, 2 ranks, straight through"

by_hostfile straight h1 h2
"$python" -m tests.multinode.same --bits "$where/whole" "$where/straight"

cut_run torchrun two_by_torchrun
by_torchrun h1 0 1 2 torchrun
"$python" -m tests.multinode.same --bits "$where/whole" "$where/torchrun"
by_torchrun h1 0 1 1 torchrun-alone
"$python" -m tests.multinode.same "$where/whole" "$where/torchrun-alone"

on_host h2 /usr/sbin/sshd
cut_run hostfile by_hostfile hostfile h1 h2
on_host h1 "$python" "${tally_train[@]}" -o "$where/hostfile" --ranks 2 >>"$where/hostfile.txt" 2>&1
"$python" -m tests.multinode.same --bits "$where/whole" "$where/hostfile"
by_hostfile hostfile-alone h1
"$python" -m tests.multinode.same "$where/whole" "$where/hostfile-alone"
for run in "$where"/{torchrun,hostfile}-alone; do
  "$python" -m tally ledger "$run" --verify | tail -n 1
done
