#!/usr/bin/env bash
# A real SLURM on this machine, to try things out and for the tests: one controller and two nodes,
# n1 and n2, of two cores and two pretended GPUs each. Works without systemd, cgroups and munge.
#
#   slurm/one_machine.sh start [--accounting]   bring it up; --accounting adds a working sacct
#   slurm/one_machine.sh status                 nodes and jobs; exit status 1 where it is down
#   slurm/one_machine.sh stop                   cancel its jobs and bring it down
#
# start prints the one line that makes sbatch and the rest talk to it:
#   eval "$(slurm/one_machine.sh start)"
#
# STUDY_CLUSTER_DIR   its configuration, state and logs (slurm/.cluster)
# STUDY_CLUSTER_PORT  the first of ten ports on 127.0.0.1 (17000)
#
# Jobs and their numbers outlive a restart; delete the folder for a new cluster.
# It trusts whoever can reach those ports, and that is everyone logged in here: never run it on a
# machine that you share.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cluster=$(realpath -m "${STUDY_CLUSTER_DIR:-$here/.cluster}")
port=${STUDY_CLUSTER_PORT:-17000}
user=$(id -un)
nodes=(n1 n2)

export SLURM_CONF=$cluster/slurm.conf
export MYSQL_UNIX_PORT=$cluster/mariadb.sock  # slurmdbd takes the socket's place from here
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 2
}

# alive NAME: whether the daemon that wrote NAME.pid still runs, and is not another's process that
# was given its number since.
alive() {
    local pid
    pid=$(cat "$cluster/$1.pid" 2>/dev/null) && [[ $(ps -o comm= -p "$pid") == "${1%%.*}" ]]
}

# wait_for SECONDS COMMAND...: until COMMAND succeeds; its status at the end.
wait_for() {
    local tries=$(($1 * 5))
    shift
    while ! "$@" >/dev/null 2>&1; do
        ((tries-- > 0)) || return 1
        sleep 0.2
    done
}

install_packages() {
    local packages=(slurm-wlm)
    if [[ $accounting == yes ]]; then
        packages+=(mariadb-server slurmdbd slurm-wlm-mysql-plugin)
    fi
    dpkg -s "${packages[@]}" >/dev/null 2>&1 && return
    local install="apt-get install -y --no-install-recommends ${packages[*]}"
    ((EUID == 0)) || fail "not installed: ${packages[*]}; ask for: sudo $install"
    say "installing ${packages[*]}"
    { apt-get update && DEBIAN_FRONTEND=noninteractive $install; } >&2
}

write_configuration() {
    local storage=accounting_storage/none
    [[ $accounting == yes ]] && storage=accounting_storage/slurmdbd
    cat >"$cluster/slurm.conf" <<CONF
ClusterName=one_machine
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
# Off the network: only this machine reaches the daemons.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/none
CredType=cred/none
SlurmUser=$user
SlurmdUser=$user
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=$storage
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + 3))
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# Quick decisions, and a lost node noticed within seconds instead of minutes.
SchedulerParameters=sched_interval=1,bf_interval=5
KillWait=5
SlurmdTimeout=20
# A node that was set down stays down until it is resumed.
ReturnToService=1
# A low limit, so that arrays longer than it need only a dozen jobs.
MaxArraySize=11
# A job in 'urgent' puts jobs in 'debug' back into the queue, after their warning signal.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool.%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.%n.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd.%n.log
GresTypes=gpu
NodeName=n[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=2 RealMemory=4000 Gres=gpu:2
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=2
CONF
    # SLURM numbers the GPUs for CUDA_VISIBLE_DEVICES only where their files are devices.
    echo "NodeName=n[1-2] Name=gpu File=/dev/null,/dev/zero" >"$cluster/gres.conf"
}

start_accounting() {
    cat >"$cluster/slurmdbd.conf" <<CONF
AuthType=auth/none
DbdHost=localhost
DbdPort=$((port + 3))
SlurmUser=$user
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=$user
PidFile=$cluster/slurmdbd.pid
LogFile=$cluster/slurmdbd.log
CONF
    chmod 600 "$cluster/slurmdbd.conf"
    if [[ ! -d $cluster/mariadb ]]; then
        mariadb-install-db --no-defaults --user="$user" --datadir="$cluster/mariadb" \
            --auth-root-authentication-method=normal --skip-test-db >"$cluster/mariadb.log" 2>&1
    fi
    if ! alive mariadbd; then
        nohup mariadbd --no-defaults --user="$user" --datadir="$cluster/mariadb" --skip-networking \
            --skip-grant-tables --socket="$MYSQL_UNIX_PORT" --pid-file="$cluster/mariadbd.pid" \
            >>"$cluster/mariadb.log" 2>&1 </dev/null &
    fi
    wait_for 30 mariadb-admin --no-defaults ping || fail "MariaDB is not up: see $cluster/mariadb.log"
    alive slurmdbd || slurmdbd
    wait_for 30 sacctmgr -n show cluster || fail "slurmdbd is not up: see $cluster/slurmdbd.log"
    # The controller finds itself in the database, or refuses to start.
    sacctmgr -i add cluster one_machine >/dev/null 2>&1 || true
}

up() { [[ $(sinfo --noheader --Node --partition debug -o %t 2>/dev/null | grep -cE '^(idle|mix|alloc|comp)$') == 2 ]]; }

start() {
    accounting=no
    [[ ${1:-} == --accounting ]] && accounting=yes
    if alive slurmctld; then
        [[ $accounting == no ]] || alive slurmdbd || fail "already up without accounting; stop it first"
    else
        install_packages
        mkdir -p "$cluster/state"
        write_configuration
        [[ $accounting == yes ]] && start_accounting
        slurmctld
    fi
    for node in "${nodes[@]}"; do
        alive "slurmd.$node" && continue
        mkdir -p "$cluster/spool.$node"
        slurmd -N "$node"
    done
    scontrol update nodename=n1,n2 state=resume 2>/dev/null || true  # what is down from before
    wait_for 30 up || fail "the nodes are not up: see $cluster/*.log"
    say "up: nodes ${nodes[*]}, partitions debug and urgent"
    echo "export SLURM_CONF=$SLURM_CONF"
}

no_jobs() { [[ -z $(squeue --noheader) ]]; }

ended() { ! kill -0 "$@"; }

# stop_daemons NAME...: asked to go, and made to after ten seconds. A daemon removes its .pid file
# before it ends, so the numbers are kept here.
stop_daemons() {
    local name pids=()
    for name in "$@"; do
        alive "$name" && pids+=("$(cat "$cluster/$name.pid")")
    done
    ((${#pids[@]})) || return 0
    kill "${pids[@]}"
    wait_for 10 ended "${pids[@]}" || kill -KILL "${pids[@]}" 2>/dev/null || true
}

stop() {
    if alive slurmctld; then
        # Jobs would go on without their daemons.
        squeue --noheader -o %A | sort -u | xargs -r scancel || true
        wait_for 20 no_jobs || say "some jobs did not end: $(squeue --noheader -o %A | xargs)"
    fi
    stop_daemons slurmd.n1 slurmd.n2 slurmctld
    stop_daemons slurmdbd
    stop_daemons mariadbd
    say "down"
}

status() {
    alive slurmctld || { say "down"; exit 1; }
    sinfo --Node --long
    squeue
    echo "export SLURM_CONF=$SLURM_CONF"
}

case "${1:-} ${2:-}" in
    "start " | "start --accounting") start "${2:-}" ;;
    "stop ") stop ;;
    "status ") status ;;
    *) fail "unknown command '$*'; use: $0 start [--accounting] | status | stop" ;;
esac
