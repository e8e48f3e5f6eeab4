#!/bin/sh
# Runs docs/recipes/many-hosts.sbatch on a Slurm of its own with two nodes on this machine (root, slurm-wlm): an array of four
# tasks, one of which is killed and put back into the queue, and the job that joins the parts. Compares with one merge.
# Exit code 77 if there is no Slurm here.
#
#   tests/recipes/slurm.sh SHARDFOLD BASE ADAPTER FOLDER
set -eu

here=$(cd "$(dirname "$0")" && pwd)
SHARDFOLD=$(realpath "$1") base=$(realpath "$2") adapter=$(realpath "$3") folder=$4
export SHARDFOLD
for command in slurmctld slurmd sbatch scontrol sinfo; do
    command -v "$command" > /dev/null || { echo "skipped: there is no $command here"; exit 77; }
done
[ "$(id -u)" -eq 0 ] || { echo "skipped: Slurm is started as root"; exit 77; }
rm -rf "$folder" && mkdir -p "$folder/state" "$folder/log" && folder=$(realpath "$folder")
host=$(hostname -s)
cat > "$folder/slurm.conf" <<CONF
ClusterName=recipes
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17100
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/ctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/log/ctld
SlurmdLogFile=$folder/log/%n
ReturnToService=2
SchedulerParameters=requeue_delay=1,sched_interval=2
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17101-17102] CPUs=1 RealMemory=2000
PartitionName=p Nodes=n[1-2] Default=YES State=UP MaxTime=10
CONF
export SLURM_CONF="$folder/slurm.conf"
trap 'scontrol shutdown > /dev/null 2>&1 || true' EXIT
slurmctld -c -f "$SLURM_CONF"
slurmd -N n1 -f "$SLURM_CONF"
slurmd -N n2 -f "$SLURM_CONF"
tries=0
until [ "$(sinfo -h -t idle -o %D 2> /dev/null)" = 2 ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || { echo "the nodes are not idle after a minute"; sinfo; tail -5 "$folder"/log/*; exit 1; }
    sleep 1
done
cd "$folder"
"$SHARDFOLD" merge -q --base "$base" --adapter "$adapter" --output "$folder/one"
# What the killed task is killed in: a command that waits the first time it is run for part 1.
cat > "$folder/slow" <<SLOW
#!/bin/sh
if [ "\${SLURM_ARRAY_TASK_ID:-}" = 1 ] && [ -z "\${SLURM_RESTART_COUNT:-}" ]; then
    touch "$folder/waits" && sleep 600
fi
exec "$SHARDFOLD" "\$@"
SLOW
chmod +x "$folder/slow"
jobs=$(SHARDFOLD="$folder/slow" SBATCH_FLAGS="--mem=500" "$here/../../docs/recipes/many-hosts.sbatch" 4 "$folder/many" \
    --base "$base" --adapter "$adapter" --threads 1)
array=${jobs% *} finish=${jobs#* }
echo "array $array, finish $finish"
wait_for() {
    tries=0
    until eval "$1"; do
        tries=$((tries + 1))
        [ "$tries" -lt 400 ] || { echo "no end: $1"; squeue; cat "$folder"/slurm-*.out; exit 1; }
        sleep 1
    done
}
wait_for '[ -e "$folder/waits" ]'
squeue
scontrol requeue "${array}_1"
echo "task 1 was killed and put back into the queue"
wait_for '[ -z "$(squeue -h -j "$finish" 2> /dev/null)" ]'
scontrol show job "${array}_1" | grep -o 'Restarts=[0-9]*' || true
cat "$folder"/slurm-"$finish".out
diff -r "$folder/one" "$folder/many" && echo "the bytes of one merge"
[ ! -e "$folder/many.partial" ]
