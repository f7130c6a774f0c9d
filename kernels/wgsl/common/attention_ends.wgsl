// Where the keys of a row begin and end, and where its result goes. With `split`, the keys of a row are in
// `params.splits` parts of `params.length` keys, counted from the first that it sees; `o` is scratch memory
// [tokens, heads, splits, dv] for sums that are not divided yet, `stats` [tokens, heads, splits, 2] has each
// part's greatest score and its sum of exponentials, 0 for a part without keys.

// Below every score.
const LOW = -3.0e38;

fn keys_of_part(token: u32, part: u32) -> vec2<u32> {
    let keys = keys_of(token);
{% if split %}
    let start = min(keys.x + part * params.length, keys.y);
    return vec2<u32>(start, min(start + params.length, keys.y));
{% else %}
    return keys;
{% endif %}
}

// What a sum is multiplied with before it is written.
fn share_of(total: f32) -> f32 {
    return {% if split %}1.0{% else %}1.0 / select(1.0, total, total > 0.0){% endif %};
}

fn write_four(token: u32, head: u32, part: u32, c: u32, v: vec4<f32>) {
    put_o(token, head, {% if split %}part, {% endif %}c, min(params.dv - c, 4u), v);
}

fn write_end(token: u32, head: u32, part: u32, top: f32, total: f32) {
{% if split %}
    st_stats(at_stats(token, head, part, 0u), top);
    st_stats(at_stats(token, head, part, 1u), total);
{% else %}
    st_lse(at_lse(token, head), select(0.0, top + log(total), total > 0.0));
{% endif %}
}
