// Rows of `seqs`: (q_start, q_len, kv_start, kv_len). Negative numbers count as 0, and what lies beyond
// `params.tokens` query rows or `params.kv` key rows is left out, so that no contradiction leads outside.

fn sequence(s: u32) -> vec4<i32> {
    let e = vec4<i32>(ld_seqs(at_seqs(s, 0u)), ld_seqs(at_seqs(s, 1u)), ld_seqs(at_seqs(s, 2u)), ld_seqs(at_seqs(s, 3u)));
    return max(e, vec4<i32>(0));
}

// The first and one past the last key row that query `i` of a sequence sees.
fn visible(s: vec4<i32>, i: i32) -> vec2<u32> {
    let end = max(s.w - s.y + i + 1, 0);
    let seen = select(s.w, end, params.causal == 1u);
    let start = min(max(end - params.window, 0), seen);
    return min(vec2<u32>(u32(s.z)) + vec2<u32>(u32(start), u32(seen)), vec2<u32>(params.kv));
}

// The keys of a query row; none if it belongs to no sequence.
fn keys_of(token: u32) -> vec2<u32> {
    let t = i32(token);
    for (var n = 0u; n < params.seqs; n++) {
        let q_start = ld_seqs(at_seqs(n, 0u));
        if t >= q_start && t - max(q_start, 0) < ld_seqs(at_seqs(n, 1u)) {
            let s = sequence(n);
            return visible(s, t - s.x);
        }
    }
    return vec2<u32>(0u);
}

// The queries of a sequence that see its key `j`, counted from its first.
fn seen_by(s: vec4<i32>, j: i32) -> vec2<u32> {
    let first = j - s.w + s.y;
    let start = select(0, max(first, 0), params.causal == 1u);
    let last = select(first + params.window, 0x7fffffff, first > 0x7fffffff - params.window);
    let end = min(min(s.y, last), i32(params.tokens) - min(s.x, i32(params.tokens)));
    return vec2<u32>(u32(start), u32(max(end, start)));
}
