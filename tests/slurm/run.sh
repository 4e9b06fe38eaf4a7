#!/bin/bash
# Prove what runs on Slurm: a cluster of two nodes on this machine (tests/multinode/hosts.sh) and on it
#
#   a build; a build whose waiting process is killed twice; a build in chained job arrays, of which
#   a task is requeued and another killed: each with the bytes of a local build;
#   an audit: the report of a local one;
#   training on both nodes: requeued, a rank killed, gone on with on one node; the ledger and, with
#   as many ranks, the weights of a run that went straight through.
#
# Needs Debian or Ubuntu, root, the network for apt, and the project's .venv (`make setup`).
#
#   sudo [CONFIG=build.yaml] tests/slurm/run.sh [build|killed|arrays|audit|training]...
#
# It leaves nothing running; its directory, printed first, holds the outputs and Slurm's logs.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/tests/multinode/hosts.sh"
config=$(realpath "${CONFIG:-$root/tests/slurm/build.yaml}")
tally=("$root/.venv/bin/python" -m tally)
where=$(mktemp -d /tmp/tally-slurm.XXXXXX)
export SLURM_CONF=$where/slurm.conf
echo "outputs and logs: $where"
cd "$root"

install() {
  command -v slurmctld munged >/dev/null && return
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q slurm-wlm munge >/dev/null
}

configure() {
  local memory_mb=$(( $(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 * 9 / 20 ))
  cat >"$SLURM_CONF" <<END
ClusterName=tally
SlurmctldHost=h1(10.77.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthInfo=socket=$where/munge.socket
SlurmUser=root
StateSaveLocation=$where/state
SlurmdSpoolDir=$where/spool.%n
SlurmctldPidFile=$where/slurmctld.pid
SlurmdPidFile=$where/slurmd.%n.pid
SlurmctldLogFile=$where/slurmctld.log
SlurmdLogFile=$where/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MinJobAge=2
SchedulerParameters=sched_interval=2,batch_sched_delay=1
NodeName=h1 NodeAddr=10.77.0.1 CPUs=$(nproc) RealMemory=$memory_mb
NodeName=h2 NodeAddr=10.77.0.2 CPUs=$(nproc) RealMemory=$memory_mb
PartitionName=main Nodes=ALL Default=YES State=UP
END
  mkdir -p "$where/state" "$where"/spool.h{1,2}
}

start() {
  dd if=/dev/urandom of="$where/munge.key" bs=1024 count=1 status=none
  chmod 0400 "$where/munge.key"
  munged --force --key-file="$where/munge.key" --socket="$where/munge.socket" \
    --pid-file="$where/munged.pid" --log-file="$where/munged.log" --seed-file="$where/munged.seed"
  make_hosts 2
  on_host h1 slurmctld
  on_host h1 slurmd -N h1
  on_host h2 slurmd -N h2
  for _ in $(seq 30); do
    [ "$(here sinfo --noheader --format='%t %D' 2>/dev/null)" = 'idle 2' ] && return
    sleep 1
  done
  echo "the nodes do not come up; see $where/*.log" >&2
  exit 1
}

here() { on_host h1 "$@"; }

stop() {
  kill -9 ${build:-} 2>/dev/null || true
  here timeout 20 scancel --me 2>/dev/null || true
  for _ in $(seq 30); do
    [ -z "$(here timeout 20 squeue --noheader 2>/dev/null)" ] && break
    sleep 1
  done
  for name in slurmd.h1 slurmd.h2 slurmctld munged; do
    [ -f "$where/$name.pid" ] && kill "$(cat "$where/$name.pid")" 2>/dev/null || true
  done
  sleep 1
  remove_hosts
}

digests() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }

compare() {
  if ! diff <(digests "$where/local") <(digests "$where/$1"); then
    echo "DIFFERENT: local and $1" >&2
    exit 1
  fi
  echo "equal to the local build, byte by byte: $1 ($(digests "$where/$1" | wc -l) files)"
}

killed_build() { # kill the waiting process while jobs are there, twice; the third run finishes
  for stage in extract encode; do
    start_build killed
    wait_for_job "tally-$stage"
    pkill -9 -P $build # what `on_host` runs
    kill -9 $build 2>/dev/null || true
    wait $build 2>/dev/null || true
    build=
    echo "killed the build while jobs of '$stage' were in the queue"
  done
  on_slurm "${tally[@]}" build "$config" -o "$where/killed" >>"$where/killed.txt"
}

on_slurm() { here "$@" --executor slurm executor.slurm.poll_s=1; }

start_build() { # NAME SETTING...: in the background
  local name=$1
  shift
  here "${tally[@]}" build "$config" -o "$where/$name" --executor slurm executor.slurm.poll_s=1 \
    "$@" >>"$where/$name.txt" 2>&1 &
  build=$!
}

wait_for_job() { # PATTERN [STATE]; leaves the job's id in $job
  for _ in $(seq 1200); do
    job=$(here squeue --noheader --array --format='%i %j %T' | grep " $1" | grep "${2:-}" | head -n 1 || true)
    job=${job%% *}
    [ -n "$job" ] && return
    sleep 0.2
  done
  echo "no job $1" >&2
  exit 1
}

kill_python_of() { # NAME of a job, which its processes have in their environment
  local killed=1
  for environment in $(grep -lz "^SLURM_JOB_NAME=$1" /proc/[0-9]*/environ 2>/dev/null); do
    process=${environment%/environ}
    if grep -q launch_pickled "$process/cmdline"; then
      kill -9 "${process#/proc/}" && killed=0
    fi
  done
  return $killed
}

harassed_build() { # arrays of one job, each depending on the one before
  start_build arrays executor.slurm.max_array_size=1
  wait_for_job tally-extract RUNNING
  here scontrol requeue "$job"
  echo "requeued job $job of 'extract'; in the queue with it:"
  here squeue --noheader --array --format='  %i %j %T %E'
  for _ in $(seq 20); do # a requeued job waits two minutes by default
    here scontrol update "jobid=$job" starttime=now 2>/dev/null && break
    sleep 1
  done
  wait_for_job tally-encode- RUNNING
  until kill_python_of tally-encode-; do sleep 0.2; done
  echo "killed the processes of 'encode'"
  wait $build
  build=
  grep -h "ended without a word" "$where/arrays.txt"
}

audit() { # local and Slurm, each with a cache of its own
  cat >"$where/items.jsonl" <<END
{"question": "Returns the shortest path between source and target, ignoring nodes and edges in the"}
{"question": "Compute the betweenness centrality for nodes in a subset of the graph"}
{"question": "Who was the first person to walk on the far side of the moon, and in which year was it?"}
END
  local command=("${tally[@]}" audit "$where/local" -b "own=$where/items.jsonl?question=question")
  TALLY_CACHE=$where/cache-local here "${command[@]}" -o "$where/audit-local" >"$where/audit.txt"
  TALLY_CACHE=$where/cache-slurm on_slurm "${command[@]}" -o "$where/audit-slurm" | tee -a "$where/audit.txt"
  for name in matches.parquet audit.json; do
    cmp "$where/audit-local/$name" "$where/audit-slurm/$name"
  done
  echo "the audit's report is the local one's: matches.parquet, audit.json"
}

train() { # RUN SETTING...: a job of `tally train --slurm`; returns when it has left the queue
  local run=$where/$1
  shift
  here "${tally[@]}" train "$where/train.yaml" -o "$run" --slurm checkpoint.every_steps=20 \
    launch.device=cpu launch.slurm.cpus_per_rank=1 "$@"
}

left() { while here squeue --noheader --format=%j | grep -q tiny; do sleep 1; done; }

steps() { wc -l 2>/dev/null <"$where/$1/metrics.jsonl" || echo 0; }

after_steps() { until [ "$(steps "$1")" -ge "$2" ]; do sleep 0.1; done; }

training() {
  local same=("$root/.venv/bin/python" -m tests.multinode.same)
  "$root/.venv/bin/python" -m tests.multinode.prepare "$where"
  train whole launch.ranks=1 launch.slurm.nodes=2
  left
  train moved launch.ranks=1 launch.slurm.nodes=2
  after_steps moved 45
  wait_for_job tiny
  here scontrol requeue "$job"
  echo "training on two nodes: requeued job $job after $(steps moved) steps"
  sleep 5
  after_steps moved 110
  ip netns pids tally-h2 | while read -r pid; do
    tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q 'train worker' && kill -9 "$pid"
  done || true
  echo "killed the rank of h2 after $(steps moved) steps"
  left
  cp -r "$where/moved" "$where/moved-alone"
  train moved launch.ranks=2 launch.slurm.nodes=1
  left
  train moved-alone launch.ranks=1 launch.slurm.nodes=1
  left
  "${same[@]}" --bits "$where/whole" "$where/moved"
  "${same[@]}" "$where/whole" "$where/moved-alone"
}

install
configure
trap stop EXIT
start
here sinfo
SECONDS=0
here "${tally[@]}" build "$config" -o "$where/local" --workers 1 >"$where/local.txt"
echo "local, one worker: $SECONDS s"
for part in ${*:-build killed arrays audit training}; do
  SECONDS=0
  case $part in
    build) on_slurm "${tally[@]}" build "$config" -o "$where/slurm" >"$where/slurm.txt"
      compare slurm ;;
    killed) killed_build; compare killed ;;
    arrays) harassed_build; compare arrays ;;
    audit) audit ;;
    training) training ;;
    *) echo "no such part: $part" >&2 && exit 1 ;;
  esac
  echo "$part: $SECONDS s"
done
