#!/usr/bin/env bash
# Runs a command with oclgrind as the only OpenCL device, and fails when oclgrind reports anything: reads and
# writes outside of buffers, data races, barriers that not all invocations reach.
#
#   scripts/with-oclgrind.sh COMMAND...
#
# oclgrind's own settings, such as OCLGRIND_MAX_WGSIZE, may be given in the environment. (Its launcher,
# `oclgrind COMMAND`, doesn't reach programs that open the OpenCL loader at run time.)
set -euo pipefail

if [ $# -eq 0 ]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi

library=${OCLGRIND_LIBRARY:-}
for candidate in /usr/lib/oclgrind /usr/local/lib /usr/lib /usr/lib64; do
    if [ -z "$library" ] && [ -e "$candidate/liboclgrind-rt-icd.so" ]; then
        library=$candidate/liboclgrind-rt-icd.so
    fi
done
if [ -z "$library" ]; then
    echo "liboclgrind-rt-icd.so wasn't found: install oclgrind, or set OCLGRIND_LIBRARY to its path" >&2
    exit 2
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/vendors"
echo "$library" >"$dir/vendors/oclgrind.icd"

# oclgrind empties its log each time it is opened, and a command may open it often: so it writes to a pipe.
mkfifo "$dir/pipe"
exec 3<>"$dir/pipe"
cat "$dir/pipe" 3>&- >"$dir/log" &
reader=$!

status=0
# Its own optimiser makes calls that it does not know.
env OCLGRIND_BUILD_OPTIONS="${OCLGRIND_BUILD_OPTIONS--cl-opt-disable}" OCL_ICD_VENDORS="$dir/vendors" OCLGRIND_LOG="$dir/pipe" OCLGRIND_DATA_RACES=1 "$@" 3>&- || status=$?

exec 3>&-
wait "$reader"
if [ -s "$dir/log" ]; then
    echo "oclgrind reports:" >&2
    cat "$dir/log" >&2
    exit 1
fi
exit "$status"
