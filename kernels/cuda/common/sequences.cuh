// Rows of `seqs`, as `sequences.wgsl` says: (q_start, q_len, kv_start, kv_len). Negative numbers count as 0, and what
// lies beyond `params.tokens` query rows or `params.kv` key rows is left out.

// First and end of a range of rows.
struct Range {
    uint first, end;
};

// The keys that query `i` of the sequence at `s` sees.
__device__ Range visible(const Params &params, const int *s, int i) {
    int q_len = max(s[params.seqs_s1], 0), kv_start = max(s[2 * params.seqs_s1], 0), kv_len = max(s[3 * params.seqs_s1], 0);
    int end = max(kv_len - q_len + i + 1, 0);
    int seen = params.causal ? end : kv_len;
    int start = min(max(end - params.window, 0), seen);
    return {min((uint)kv_start + start, params.kv), min((uint)kv_start + seen, params.kv)};
}

// The keys of a query row; none if it belongs to no sequence.
__device__ Range keys_of(const Params &params, const int *seqs, uint token) {
    int t = (int)token;
    for (uint n = 0; n < params.seqs; n++) {
        const int *s = seqs + (unsigned long long)n * params.seqs_s0;
        if (t >= s[0] && t - max(s[0], 0) < s[params.seqs_s1]) return visible(params, s, t - max(s[0], 0));
    }
    return {0, 0};
}

// The query rows of the sequence at `s` that may see any of `n` keys from `first` on.
__device__ Range seen_by(const Params &params, const int *s, uint first, uint n) {
    const int q_start = max(s[0], 0), q_len = max(s[params.seqs_s1], 0);
    const int kv_start = max(s[2 * params.seqs_s1], 0), kv_len = max(s[3 * params.seqs_s1], 0);
    const int low = max((int)first - kv_start, 0), last = min((int)(first + n - 1) - kv_start, kv_len - 1);
    if (low > last) return {0, 0};
    const int start = params.causal ? max(low - kv_len + q_len, 0) : 0;
    const long long end = min((long long)last - kv_len + q_len + params.window, (long long)q_len);
    const long long beyond = min(q_start + end, (long long)params.tokens);
    if (beyond <= (long long)q_start + start) return {0, 0};
    return {(uint)q_start + start, (uint)beyond};
}

#define NONE 0xffffffffu

// The first key from j on that any of ROWS rows sees. A lane looks at every 32nd row.
template <uint ROWS> __device__ __forceinline__ uint next_key(const Range *rows, uint j) {
    uint least = NONE;
#pragma unroll
    for (uint r = threadIdx.x % 32; r < ROWS; r += 32) {
        if (j < rows[r].end) least = min(least, max(j, rows[r].first));
    }
    return __reduce_min_sync(0xffffffffu, least);
}
