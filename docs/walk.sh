#!/bin/sh
# A walk as a new user: what README, the tutorials and one how-to tell, in an empty folder, with nothing but `fastalloc`.
# `make walk` runs it for this checkout; `make wheel`, and so the continuous integration, for the wheel alone.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
say() { printf '\n== %s\n' "$*"; }

say 'README: what there is'
fastalloc --version
fastalloc -h > help.txt
grep -q 'run  *Run the variants' help.txt
fastalloc scenarios | head -4

say 'tutorial 1: a livelock, a larger reserve, a fix that is broken'
fastalloc run swap-livelock-34m --lanes 8 --out first
test -s first/report.html
fastalloc run swap-livelock-34m --variant fix --lanes 8 --set machine.min_free_kbytes=4096 --json --out large > large.json
grep -q '"livelocked_5s": 0' large.json
fastalloc run swap-livelock-34m --variant fix --lanes 8 --set host.free_list=0 --out broken | head -4
fastalloc rerun broken 0 | tail -1
fastalloc rerun broken 0 --since 3s --events 5 | head -3

say 'tutorial 3: a scenario and a policy of my own'
fastalloc init mine
fastalloc run mine/scenario.toml --lanes 4 --out mine/out | head -5
fastalloc compare mine/scenario.toml --policies fix,mine/sense_first.py --lanes 4 --out mine/board

say 'a mistake in a policy of my own, and in the name of one'
printf 'def short(z):\n    return z.fre\n\n\ndef depth(zone):\n    return short(zone)\n' > wrong.py
if fastalloc run mine/scenario.toml --policies wrong.py 2> mistake.txt; then exit 1; fi
grep "wrong.py: line 2: .*did you mean 'free'" mistake.txt
if fastalloc run mine/scenario.toml --policies nomrge-bio 2> mistake.txt; then exit 1; fi
grep "did you mean 'nomerge-bio'" mistake.txt

say 'a scenario that I write myself, and a mistake in it'
fastalloc scenarios show swap-livelock-34m > own.toml
sed -i.bak 's/^copiers = .*/copiers = 6/; s/^lanes = .*/lanes = 2/' own.toml
fastalloc run own.toml --variant rc8 --out own | head -4
sed -i.bak 's/^copiers/copeirs/' own.toml
if fastalloc run own.toml 2> mistake.txt; then exit 1; fi
grep "did you mean 'copiers'" mistake.txt

say 'how to: does my cache merge, and what does it cost?'
fastalloc caches --size 2312 --kernel 6.12 | head -12

say 'from Python, twice'
python - << 'END'
import fastalloc

first = fastalloc.run("swap-livelock-34m", "out/py", variants=["fix"], lanes=2, seconds=5)
again = fastalloc.run("swap-livelock-34m", "out/py", variants=["fix"], lanes=2, seconds=5)
print(again, again.verdicts.select("variant", "livelocked_5s"))
END

say 'done'
