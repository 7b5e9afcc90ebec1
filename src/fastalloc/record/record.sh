#!/bin/sh
# Record the kmem events of a Linux machine, with what its slab caches held before and after: for `fastalloc replay`.
#
#   sudo sh record.sh -o run -- ./workload      until the command ends
#   sudo sh record.sh -o run -s 30              for so many seconds
#   sudo sh record.sh -o run                    until Ctrl-C
#
#   -o DIR      the folder to make  [run]
#   -b KB       trace buffer of each CPU  [as memory allows, at most 65536]
#   -s SECONDS  how long, where no command is given
#   --shrink    shrink every slab cache first: the replay is then nearly exact, but free slabs that a machine has
#               after days are gone, so the recording starts from lists that it would not have had
#
# Only POSIX sh and cat, mkdir, rmdir, rm, wc, id, sleep, mount, umount and kill are used: it runs under dash and busybox.
# Tracing runs in an instance of its own, which is removed at every way out; tracing that is in use is not touched.

set -u
umask 077
ME=record
OUT=run
KB=
SECS=
SHRINK=0
EVENTS="kmem_cache_alloc kmem_cache_free kmalloc kfree mm_page_alloc mm_page_free"
MORE="kmem_cache_alloc_node kmalloc_node"
T=
INST=
MOUNTED=
CHILD=
READERS=
DOG=
MADE=

say() { echo "$ME: $*" >&2; }
refuse() { say "$*"; exit 2; }

while [ $# -gt 0 ]; do
    case $1 in
    -o) [ $# -gt 1 ] || refuse "-o needs a folder"; OUT=$2; shift ;;
    -b) [ $# -gt 1 ] || refuse "-b needs a number of KB"; KB=$2; shift ;;
    -s | --seconds) [ $# -gt 1 ] || refuse "-s needs a number of seconds"; SECS=$2; shift ;;
    --shrink) SHRINK=1 ;;
    --) shift; break ;;
    *) refuse "unknown option $1; usage: record [-o DIR] [-b KB] [-s SECONDS] [--shrink] [-- COMMAND...]" ;;
    esac
    shift
done
case $KB in *[!0-9]*) refuse "-b $KB is no number" ;; esac
case $SECS in *[!0-9]*) refuse "-s $SECS is no number" ;; esac
[ "$(id -u)" = 0 ] || refuse "needs root: the kernel's trace events and slab counts are for root alone; run it with sudo"
[ ! -e "$OUT" ] || refuse "$OUT exists; give another folder with -o"
case $OUT in /*) ;; *) OUT=$PWD/$OUT ;; esac

# Put everything back: what is traced, the mount, the children. Safe to call twice.
restore() {
    if [ -n "$INST" ] && [ -d "$INST" ]; then
        echo 0 > "$INST/tracing_on"
        echo 0 > "$INST/events/enable"
        n=0
        while ! rmdir "$INST" && [ $n -lt 50 ]; do
            sleep 0.1 || sleep 1
            n=$((n + 1))
        done
    fi 2> /dev/null
    names=
    [ ! -r "$T/kprobe_events" ] || while read -r p _; do
        case $p in *:fastalloc/*) names="$names ${p##*/}" ;; esac
    done < "$T/kprobe_events"
    for p in $names; do echo "-:fastalloc/$p" >> "$T/kprobe_events"; done 2> /dev/null
    [ -z "$MOUNTED" ] || umount "$MOUNTED" 2> /dev/null
    MOUNTED=
}

fail() {
    trap '' HUP INT QUIT PIPE TERM USR1 USR2 ALRM
    # shellcheck disable=SC2086
    [ -z "$CHILD$READERS" ] || kill $CHILD $READERS 2> /dev/null
    [ -z "$DOG" ] || kill -9 "$DOG" 2> /dev/null
    restore
    [ -z "$MADE" ] || rm -rf "$OUT"
    say "$1; nothing was kept"
    exit "${2:-1}"
}

mkdir "$OUT" 2> /dev/null || refuse "$OUT cannot be made"
MADE=1
for s in HUP:129 QUIT:131 PIPE:141 TERM:143 USR1:138 USR2:140 ALRM:142; do
    # shellcheck disable=SC2064
    trap "fail 'stopped by SIG${s%%:*}' ${s##*:}" "${s%%:*}"
done
trap 'fail "stopped by SIGINT before it began" 130' INT

for d in /sys/kernel/tracing /sys/kernel/debug/tracing; do
    if [ -d "$d/instances" ]; then T=$d; break; fi
done
if [ -z "$T" ]; then
    mount -t tracefs nodev /sys/kernel/tracing 2> /dev/null || fail "no tracefs; the kernel needs CONFIG_FTRACE"
    MOUNTED=/sys/kernel/tracing
    T=$MOUNTED
fi
[ -d /sys/kernel/slab ] || fail "no /sys/kernel/slab; the kernel needs CONFIG_SLUB with CONFIG_SYSFS"
for e in $EVENTS; do
    [ -d "$T/events/kmem/$e" ] || fail "the kernel has no event kmem:$e"
done
INST=$T/instances/fastalloc
if ! mkdir "$INST" 2> /dev/null; then
    INST=
    fail "$T/instances/fastalloc cannot be made: another recording runs, or CONFIG_TRACING has no instances"
fi

# SIGKILL cannot be caught: this one puts everything back when the recorder is gone.
MAIN=$$
(
    trap '' HUP INT QUIT PIPE TERM USR1 USR2 ALRM
    while kill -0 "$MAIN" 2> /dev/null; do sleep 1; done
    # shellcheck disable=SC2086
    [ ! -r "$OUT/.readers" ] || kill $(cat "$OUT/.readers") 2> /dev/null
    restore
    rm -rf "$OUT"
    say "killed; tracing was put back, nothing was kept"
) &
DOG=$!

put() { { echo "$2" > "$INST/$1"; } 2> /dev/null; }
cpus=0
for d in "$INST"/per_cpu/cpu*; do cpus=$((cpus + 1)); done
if [ -z "$KB" ]; then
    while read -r name value _; do [ "$name" = MemFree: ] && KB=$((value / 4 / cpus)); done < /proc/meminfo
    [ "$KB" -lt 65536 ] || KB=65536
fi
put trace_clock mono || fail "the kernel has no trace clock mono"
put options/overwrite 0
put trace_options nohash-ptr
put buffer_size_kb "$KB" || fail "no memory for trace buffers of $KB KB on $cpus CPUs; give less with -b"

# ------------------------------------------------------------------------------- what no tracepoint shows, by probes
# Where the kernel cannot make one (no kprobe events, no arguments at a return before 6.9) nothing is lost but this.
PROBES=
probe() { # name, p or r, function, arguments, filter: an event of our own; 1 where the kernel does not take it
    { echo "$2:fastalloc/$1 $3 $4" >> "$T/kprobe_events"; } 2> /dev/null || return 1
    PROBES="$PROBES $1"
    [ -z "$5" ] || put "events/fastalloc/$1/filter" "$5"
}
named() { # as probe, with the name of the cache where the kernel has its types at hand (BTF)
    probe "$1" "$2" "$3" "$4 name=s->name:string" "$5" || probe "$1" "$2" "$3" "$4" "$5"
}
# shellcheck disable=SC2016
if [ -w "$T/kprobe_events" ]; then
    for f in kmem_cache_alloc_bulk_noprof kmem_cache_alloc_bulk; do
        named fa_bulk_alloc_0 r $f 'n=$retval:s32 flags=$arg2:u32 o=+0($arg4):x64[16]' '' &&
            probe fa_bulk_alloc_16 r $f 'n=$retval:s32 flags=$arg2:u32 o=+128($arg4):x64[48]' 'n > 16' && break
    done
    if [ -n "$PROBES" ]; then # objects whose birth nobody saw would only be taken for older ones
        probe fa_bulk_free_0 p kmem_cache_free_bulk 'n=$arg2:u64 o=+0($arg3):x64[16]' ''
        probe fa_bulk_free_16 p kmem_cache_free_bulk 'n=$arg2:u64 o=+128($arg3):x64[48]' 'n > 16'
        n=64
        while [ $n -lt 512 ]; do
            probe fa_bulk_free_$n p kmem_cache_free_bulk 'n=$arg2:u64 o=+'$((8 * n))'($arg3):x64[64]' "n > $n"
            n=$((n + 64))
        done
        named fa_kfree_rcu r __kfree_rcu_sheaf 's=$arg1:x64 n=$retval:u8 o=$arg2:x64' 'n != 0'
        for f in kmem_cache_prefill_sheaf_noprof kmem_cache_prefill_sheaf; do
            named fa_prefill r $f 's=$arg1:x64 sheaf=$retval:x64 n=+24($retval):u32 want=$arg3:u32' '' && break
        done
        named fa_return_sheaf p kmem_cache_return_sheaf 's=$arg1:x64 sheaf=$arg3:x64 n=+24($arg3):u32' ''
        probe fa_rcu_sheaf p rcu_free_sheaf 's=+16($arg1):x64 sheaf=$arg1:x64 n=+24($arg1):u32' ''
    fi
fi

# ------------------------------------------------------------------- trace.dat, version 6 [trace-cmd.dat.v6(5)]
# Ctrl-C must not wait for processes: le starts none, and what is known before is written before it records.
le() { # number, bytes: little-endian
    n=$1
    i=0
    octal=
    while [ $i -lt "$2" ]; do
        octal="$octal\\$((n >> 6 & 3))$((n >> 3 & 7))$((n & 7))"
        n=$((n >> 8))
        i=$((i + 1))
    done
    # shellcheck disable=SC2059
    printf "$octal"
}
size_of() { size=0; size=$(wc -c < "$1"); size=$((size)); }
text() { # file, width of its size: size and content
    cat "$1" > "$OUT/.text" || return 1
    size_of "$OUT/.text"
    le "$size" "$2" && cat "$OUT/.text"
}
head=$OUT/.head
{
    printf '\027\010\104tracing6\000\000\010' && le 4096 4 &&
        printf 'header_page\000' && text "$T/events/header_page" 8 &&
        printf 'header_event\000' && text "$T/events/header_event" 8 &&
        le 1 4 && text "$T/events/ftrace/print/format" 8 || exit 1
    if [ -n "$PROBES" ]; then le 2 4; else le 1 4; fi
    printf 'kmem\000' || exit 1
    n=0
    for e in $EVENTS $MORE; do [ ! -d "$T/events/kmem/$e" ] || n=$((n + 1)); done
    le $n 4
    for e in $EVENTS $MORE; do
        [ ! -d "$T/events/kmem/$e" ] || text "$T/events/kmem/$e/format" 8 || exit 1
    done
    if [ -n "$PROBES" ]; then
        n=0
        for e in $PROBES; do n=$((n + 1)); done
        printf 'fastalloc\000' && le $n 4 || exit 1
        for e in $PROBES; do text "$T/events/fastalloc/$e/format" 8 || exit 1; done
    fi
} > "$head" 2> /dev/null || fail "cannot write $OUT: is the disk full?"

# ---------------------------------------------------------------------------------------------- what caches hold
S=/sys/kernel/slab
LAYOUT="slab_size object_size order objs_per_slab cpu_partial min_partial sheaf_capacity align"
COUNTS="slabs objects total_objects partial cpu_slabs slabs_cpu_partial"
SHOWN=
while read -r name _; do
    case $name in slabinfo | '#') continue ;; esac
    cd -P "$S/$name" 2> /dev/null || continue
    SHOWN="$SHOWN $PWD $name"
done < /proc/slabinfo
cd / || exit 1

values() { # folder, files: their first lines behind $line, commas between
    where=$1
    shift
    for f in "$@"; do
        v=
        [ -e "$where/$f" ] && IFS= read -r v < "$where/$f"
        line=$line,$v
    done
}

layouts() { # a row a cache, its name and what does not change
    # shellcheck disable=SC2086
    set -- $SHOWN
    while [ $# -gt 1 ]; do
        line=$2
        # shellcheck disable=SC2086
        values "$1" $LAYOUT
        echo "$line"
        shift 2
    done > "$OUT/.layout"
}

readings() { # file: those rows with the counts, each value as the kernel printed it
    file=$1
    # shellcheck disable=SC2086
    set -- $SHOWN
    {
        line=cache
        for f in $LAYOUT $COUNTS; do line=$line,$f; done
        echo "$line,alias_of"
        while [ $# -gt 1 ]; do
            IFS= read -r line <&3
            # shellcheck disable=SC2086
            values "$1" $COUNTS
            echo "$line,"
            shift 2
        done
    } > "$file" 3< "$OUT/.layout"
}

merged() { # file: names that share another's cache
    for d in "$S"/*; do
        name=${d##*/}
        case $name in :*) continue ;; esac
        cd -P "$d" 2> /dev/null || continue
        case "$SHOWN " in *" $PWD $name "*) continue ;; esac
        case "$SHOWN " in
        *" $PWD "*) ;;
        *) continue ;;
        esac
        shown=${SHOWN#*" $PWD "}
        line=$name
        # shellcheck disable=SC2086
        values "$d" $LAYOUT
        for f in $COUNTS; do line=$line,; done
        echo "$line,${shown%% *}"
    done >> "$1"
    cd / || exit 1
}

for f in version cmdline zoneinfo meminfo cpuinfo; do cat "/proc/$f" > "$OUT/$f" 2> /dev/null || fail "cannot write $OUT/$f: is the disk full?"; done
mkdir -p "$OUT/sys/vm" "$OUT/after"
for f in min_free_kbytes watermark_scale_factor; do cat /proc/sys/vm/$f > "$OUT/sys/vm/$f" 2> /dev/null; done
layouts || fail "cannot write $OUT/.layout"
# Once before it counts: the kernel makes an inode and a dentry for each file that is read the first time.
readings "$OUT/trace.slabs.csv" || fail "cannot write $OUT/trace.slabs.csv"
readings "$OUT/after/trace.slabs.csv" || fail "cannot write $OUT/after/trace.slabs.csv"
cat /proc/slabinfo > "$OUT/after/slabinfo"
if [ $SHRINK = 1 ]; then
    say "shrinking every slab cache: lists and free slabs that this machine had are gone"
    for d in "$S"/*; do [ -L "$d" ] || echo 1 > "$d/shrink"; done 2> /dev/null
fi

# -------------------------------------------------------------------------------------------------- the recording
for e in $EVENTS $MORE; do
    [ ! -d "$INST/events/kmem/$e" ] || put "events/kmem/$e/enable" 1 || fail "event kmem:$e cannot be switched on"
done
[ -z "$PROBES" ] || put events/fastalloc/enable 1
cat /proc/slabinfo > "$OUT/slabinfo" || fail "cannot write $OUT/slabinfo"
put tracing_on 1
put trace_marker "fastalloc: readings begin"
# No process may start before the end: the replay begins there, and what its fork refills would be lost.
readings "$OUT/trace.slabs.csv" || fail "cannot write $OUT/trace.slabs.csv"
put trace_marker "fastalloc: readings end"

lost() { # how many events the buffers had no room for
    lost=0
    for d in "$INST"/per_cpu/cpu*; do
        while IFS=': ' read -r a b c _; do
            case $a in
            dropped) lost=$((lost + ${c:-0})) ;;
            overrun) lost=$((lost + ${b:-0})) ;;
            esac
        done < "$d/stats"
    done
}

STOP=0
TOLD=0
trap 'STOP=1; [ -z "$CHILD" ] || kill "$CHILD" 2> /dev/null' INT
watch_lost() {
    lost
    if [ $lost -gt 0 ] && [ $TOLD = 0 ]; then
        TOLD=1
        say "events are being lost: buffers of $KB KB a CPU are full; stop, and record with a larger -b"
    fi
}
status=0
if [ $# -gt 0 ]; then
    "$@" &
    CHILD=$!
    while kill -0 "$CHILD" 2> /dev/null && [ $STOP = 0 ]; do
        wait "$CHILD"
        status=$?
    done
    CHILD=
else
    say "recording${SECS:+ for $SECS seconds}; Ctrl-C ends it"
    n=0
    while [ $STOP = 0 ] && { [ -z "$SECS" ] || [ $n -lt "$SECS" ]; }; do
        sleep 1 &
        wait $!
        n=$((n + 1))
        watch_lost
    done
fi
trap 'fail "stopped by SIGINT while it was writing" 130' INT

put trace_marker "fastalloc: readings begin"
readings "$OUT/after/trace.slabs.csv" || fail "cannot write $OUT/after/trace.slabs.csv"
cat /proc/slabinfo > "$OUT/after/slabinfo" || fail "cannot write $OUT/after/slabinfo"
put trace_marker "fastalloc: readings end"
put tracing_on 0
merged "$OUT/trace.slabs.csv" || fail "cannot write $OUT/trace.slabs.csv"

lost
{
    text /proc/kallsyms 4 && le 0 4 && text "$T/saved_cmdlines" 8 && le $cpus 4 &&
        printf 'options  \000' && le 4 2 && le 6 4 && printf '[mono]' && le 0 2 && printf 'flyrecord\000'
} >> "$head" 2> /dev/null || fail "cannot write $OUT: is the disk full?"

c=0
while [ $c -lt $cpus ]; do # all at once
    cat "$INST/per_cpu/cpu$c/trace_pipe_raw" > "$OUT/.cpu$c" 2> /dev/null &
    READERS="$READERS $!"
    c=$((c + 1))
done
echo "$READERS" > "$OUT/.readers" || fail "cannot write $OUT: is the disk full?"
read_all() { # whether every reader has read all and sleeps until there is more
    c=0
    for reader in $READERS; do
        entries=0
        while IFS=': ' read -r a b _; do [ "$a" = entries ] && entries=$b; done < "$INST/per_cpu/cpu$c/stats"
        state=gone
        read -r _ _ state _ 2> /dev/null < "/proc/$reader/stat"
        case $state in gone | Z) fail "cannot write $OUT: is the disk full?" ;; esac
        [ "$entries" = 0 ] && [ "$state" = S ] || return 1
        c=$((c + 1))
    done
}
still=0
while [ $still -lt 2 ]; do # twice: what it read last is written by then
    if read_all; then still=$((still + 1)); else still=0; fi
    sleep 0.1 2> /dev/null || sleep 1
done
# shellcheck disable=SC2086
kill $READERS 2> /dev/null
wait $READERS 2> /dev/null
READERS=
size_of "$head"
at=$(((size + 16 * cpus + 4095) / 4096 * 4096))
pad=$((at - size - 16 * cpus))
{
    cat "$head" || exit 1
    c=0
    while [ $c -lt $cpus ]; do
        size=0
        [ ! -s "$OUT/.cpu$c" ] || size_of "$OUT/.cpu$c"
        le $at 8 && le $size 8 || exit 1
        at=$((at + size))
        c=$((c + 1))
    done
    while [ $pad -gt 0 ]; do printf '\000' && pad=$((pad - 1)) || exit 1; done
    c=0
    while [ $c -lt $cpus ]; do
        if [ -s "$OUT/.cpu$c" ]; then cat "$OUT/.cpu$c" && rm "$OUT/.cpu$c" || exit 1; fi
        c=$((c + 1))
    done
} > "$OUT/trace.dat" 2> /dev/null || fail "cannot write $OUT/trace.dat: is the disk full?"
rm -f "$head" "$OUT/.text" "$OUT/.layout" "$OUT/.readers" "$OUT"/.cpu*
{
    echo "shrunk=$SHRINK" && echo "lost=$lost" && echo "buffer_kb=$KB" && echo "cpus=$cpus" && echo "status=$status" &&
        echo "probes=$PROBES"
} > "$OUT/record.txt" || fail "cannot write $OUT/record.txt: is the disk full?"

trap '' HUP INT QUIT PIPE TERM USR1 USR2 ALRM
kill -9 "$DOG" 2> /dev/null
wait "$DOG" 2> /dev/null
restore
[ "$lost" = 0 ] || say "$lost events were lost, so the recording is no use for a replay: record with a larger -b than $KB"
say "$OUT: fastalloc replay $OUT"
exit 0
