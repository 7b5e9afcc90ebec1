#!/bin/sh
# Workloads of shell commands: files in tmpfs, processes, pipes, sockets as far as busybox goes.
churn() { # files made, renamed, removed; every so many stay
    mkdir -p /tmp/w
    i=0
    while [ $i -lt "$1" ]; do
        echo $i > /tmp/w/$i
        mv /tmp/w/$i /tmp/w/m$i
        [ $((i % $2)) = 0 ] || rm /tmp/w/m$i
        i=$((i + 1))
    done
}
many() { # directories with files, half of them removed in the order in which they came
    d=0
    while [ $d -lt "$1" ]; do
        mkdir -p /tmp/d$d
        f=0
        while [ $f -lt 40 ]; do : > /tmp/d$d/$f; f=$((f + 1)); done
        d=$((d + 1))
    done
    d=0
    while [ $d -lt "$1" ]; do rm -r /tmp/d$d; d=$((d + 2)); done
}
forks() {
    i=0
    while [ $i -lt "$1" ]; do
        cat /proc/self/stat | cat | cat > /dev/null
        i=$((i + 1))
    done
}
case $1 in
warm) churn 60 7; many 2; forks 15 ;;
files) many 12 & churn 250 5; wait ;;
forks) forks 60 & forks 60; wait ;;
mix) many 8 & forks 40 & churn 150 6; wait ;;
esac
exit 0
