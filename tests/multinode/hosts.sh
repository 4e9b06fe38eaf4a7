# "Hosts" on one machine, for scripts to source: network namespaces on a bridge, each with a host
# name, an /etc/hosts and an /etc/ssh of its own (`ip netns exec` puts /etc/netns/NAME over /etc).
# Needs root. All files are shared, as on nodes with a shared disk.
#
#   make_hosts N            h1..hN, addresses 10.77.0.1..N
#   start_sshd              every host may log in to every host
#   on_host h1 COMMAND...
#   cut_host h1             its network is gone without a word, then its processes
#   join_host h1            its network is back
#   remove_hosts

bridge=tallybr0
hosts=()

make_hosts() {
  remove_hosts
  mkdir -p /run/tally-cgroup
  mount --rbind --make-rslave /sys/fs/cgroup /run/tally-cgroup
  ip link add $bridge type bridge
  ip link set $bridge up
  for number in $(seq "$1"); do hosts+=("h$number"); done
  for host in "${hosts[@]}"; do
    mkdir -p "/etc/netns/tally-$host"
    { echo 127.0.0.1 localhost; for h in "${hosts[@]}"; do echo "10.77.0.${h#h} $h"; done; } \
      >"/etc/netns/tally-$host/hosts"
    ip netns add "tally-$host"
    ip link add "tally$host" type veth peer name eth0 netns "tally-$host"
    ip link set "tally$host" master $bridge up
    ip -n "tally-$host" addr add "10.77.0.${host#h}/24" dev eth0
    ip -n "tally-$host" link set eth0 up
    ip -n "tally-$host" link set lo up
  done
}

start_sshd() { # keys and settings of this script alone: nobody's ~/.ssh is looked at
  local keys
  keys=$(mktemp -d)
  ssh-keygen -q -t ed25519 -N '' -f "$keys/id"
  mkdir -p /run/sshd
  for host in "${hosts[@]}"; do
    local ssh=/etc/netns/tally-$host/ssh
    mkdir -p "$ssh"
    cp "$keys/id" "$ssh/id"
    cp "$keys/id" "$ssh/host_key"
    cp "$keys/id.pub" "$ssh/authorized_keys"
    printf '%s\n' 'HostKey /etc/ssh/host_key' 'AuthorizedKeysFile /etc/ssh/authorized_keys' \
      'StrictModes no' 'PidFile none' 'MaxStartups 100' >"$ssh/sshd_config"
    printf '%s\n' 'IdentityFile /etc/ssh/id' 'StrictHostKeyChecking no' 'LogLevel ERROR' \
      'UserKnownHostsFile /dev/null' >"$ssh/ssh_config"
    on_host "$host" /usr/sbin/sshd
  done
  rm -r "$keys"
}

on_host() {
  local host=$1
  shift
  ip netns exec "tally-$host" unshare --uts sh -c "hostname $host"'
    mount --rbind /run/tally-cgroup /sys/fs/cgroup # slurmd looks for it; the new /sys has none
    exec "$@"' sh "$@"
}

cut_host() {
  ip -n "tally-$1" link set eth0 down
  ip netns pids "tally-$1" | xargs -r kill -9
}

join_host() {
  ip -n "tally-$1" link set eth0 up
}

remove_hosts() {
  for name in $(ip netns list | awk '/^tally-h/ {print $1}'); do
    ip netns pids "$name" | xargs -r kill -9
    ip netns del "$name"
    rm -rf "/etc/netns/$name"
  done
  for link in $(ip -br link | grep -o '^tallyh[0-9]*') $bridge; do
    ip link del "$link" 2>/dev/null || true # a namespace goes some time after its last process
  done
  umount -Rl /run/tally-cgroup 2>/dev/null || true
  hosts=()
}
