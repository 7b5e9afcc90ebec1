#!/bin/busybox sh
# First process of the guest: record a workload by the script alone, send the folder over the second serial line.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tracefs trace /sys/kernel/tracing
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
cd /tmp
for word in $(cat /proc/cmdline); do
    case $word in
    fa.options=*) options=$(echo "${word#*=}" | tr , ' ') ;;
    fa.work=*) work=${word#*=} ;;
    esac
done
echo 3 > /proc/sys/kernel/printk
# Something to find in the lists: a machine has had work before.
sh /workload.sh warm > /dev/null 2>&1
T=/sys/kernel/tracing
left() { echo "ways out: $1: left '$(ls $T/instances)$(ls -d /tmp/out/run 2> /dev/null)$(cat $T/kprobe_events)'"; }
if [ "$work" = ways-out ]; then
    mkdir /tmp/out
    for s in HUP PIPE TERM USR1 USR2 ALRM SEGV KILL; do
        sh /record.sh -o /tmp/out/run -b 1000 -s 600 &
        pid=$!
        n=0
        while [ ! -e /tmp/out/run/slabinfo ] && [ $n -lt 60 ]; do sleep 1; n=$((n + 1)); done
        kill -$s $pid
        wait $pid
        sleep 4
        left $s
    done
    # Ctrl-C: what it starts and how long it takes until the recording is there
    now() {
        read -r up _ < /proc/uptime
        while read -r name count _; do [ "$name" != processes ] || forks=$count; done < /proc/stat
        echo "${up%.*}${up#*.} $forks"
    }
    (
        n=0
        while [ ! -e /tmp/out/run/slabinfo ] && [ $n -lt 60 ]; do sleep 1; n=$((n + 1)); done
        sleep 5
        now > /tmp/before
        kill -INT "$(cat /tmp/pid)"
    ) &
    # shellcheck disable=SC2016
    sh -c 'echo $$ > /tmp/pid; exec sh /record.sh -o /tmp/out/run -b 1000'
    status=$?
    after=$(now)
    read -r up forks < /tmp/before
    echo "ways out: Ctrl-C: status $status, $((${after% *} - up)) hundredths, $((${after#* } - forks)) processes," \
        "$(ls -s /tmp/out/run/trace.dat)"
    rm -r /tmp/out/run
    left Ctrl-C
    mkdir $T/instances/fastalloc
    sh /record.sh -o /tmp/out/run -s 1
    echo "ways out: in use: status $?"
    rmdir $T/instances/fastalloc
    left "in use"
    mkdir /tmp/small
    mount -t tmpfs -o size=200k small /tmp/small
    sh /record.sh -o /tmp/small/run -b 1000 -s 1
    echo "ways out: full disk: status $? $(ls /tmp/small)"
    left "full disk"
    echo "guest: done"
    poweroff -f
fi
# shellcheck disable=SC2086
busybox sh /record.sh -o /tmp/run -b 20000 $options -- sh /workload.sh "$work"
echo "record: status $?; left: $(ls /sys/kernel/tracing/instances)"
stty -F /dev/ttyS1 raw -echo
tar -c -z -f - -C /tmp run > /dev/ttyS1
sync
echo "guest: done"
poweroff -f
