# Commands side by side, one for each processor; to be sourced.

beside_started=()

# Starts a command, or function, as soon as a processor is free.
beside() {
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n || true; done
    "$@" &
    beside_started+=($!)
}

# Waits for all that was started; fails if any of it did.
beside_all() {
    local job failed=
    for job in "${beside_started[@]}"; do wait "$job" || failed=1; done
    [ -z "$failed" ]
}

# Stops what still runs.
beside_none() {
    kill $(jobs -rp) 2>/dev/null || true
}
