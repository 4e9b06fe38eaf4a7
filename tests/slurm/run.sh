#!/bin/bash
# Prove the Slurm executor: a cluster of one node on this machine, a build on it, a build whose
# waiting process is killed and run again, and the bytes of both compared with a local build.
# Needs Debian or Ubuntu, root, the network for apt, and the project's .venv (`make setup`).
#
#   sudo tests/slurm/run.sh [CONFIG]
#
# It leaves nothing running; its directory, printed first, holds the outputs and Slurm's logs.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
config=$(realpath "${1:-$root/tests/slurm/build.yaml}")
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
  local memory_mb=$(( $(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 * 9 / 10 ))
  cat >"$SLURM_CONF" <<END
ClusterName=tally
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthInfo=socket=$where/munge.socket
SlurmUser=root
StateSaveLocation=$where/state
SlurmdSpoolDir=$where/spool
SlurmctldPidFile=$where/slurmctld.pid
SlurmdPidFile=$where/slurmd.pid
SlurmctldLogFile=$where/slurmctld.log
SlurmdLogFile=$where/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MinJobAge=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory_mb
PartitionName=main Nodes=ALL Default=YES State=UP
END
  mkdir -p "$where/state" "$where/spool"
}

start() {
  dd if=/dev/urandom of="$where/munge.key" bs=1024 count=1 status=none
  chmod 0400 "$where/munge.key"
  munged --force --key-file="$where/munge.key" --socket="$where/munge.socket" \
    --pid-file="$where/munged.pid" --log-file="$where/munged.log" --seed-file="$where/munged.seed"
  slurmctld
  slurmd -N "$(hostname -s)"
  for _ in $(seq 30); do
    [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ] && return
    sleep 1
  done
  echo "the node does not come up; see $where/*.log" >&2
  exit 1
}

stop() {
  kill -9 ${build:-} 2>/dev/null || true
  scancel --me 2>/dev/null || true
  for _ in $(seq 30); do
    [ -z "$(squeue --noheader 2>/dev/null)" ] && break
    sleep 1
  done
  for name in slurmd slurmctld munged; do
    [ -f "$where/$name.pid" ] && kill "$(cat "$where/$name.pid")" 2>/dev/null || true
  done
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
    "${tally[@]}" build "$config" -o "$where/killed" --executor slurm executor.slurm.poll_s=1 >"$where/killed.txt" &
    build=$!
    for _ in $(seq 600); do
      squeue --noheader --format=%j | grep -q "tally-$stage" && break
      sleep 0.1
    done
    kill -9 $build
    wait $build 2>/dev/null || true
    build=
    echo "killed the build while jobs of '$stage' were in the queue"
  done
  "${tally[@]}" build "$config" -o "$where/killed" --executor slurm executor.slurm.poll_s=1
}

install
configure
trap stop EXIT
start
sinfo
SECONDS=0
"${tally[@]}" build "$config" -o "$where/local" --workers 1
echo "local, one worker: $SECONDS s"
SECONDS=0
"${tally[@]}" build "$config" -o "$where/slurm" --executor slurm executor.slurm.poll_s=1
echo "Slurm, $(nproc) processors: $SECONDS s"
compare slurm
killed_build
compare killed
