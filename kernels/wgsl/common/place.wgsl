{# place(a): goes through all assignments `x` [tokens, k], places the one of number a, and finds the offset of expert
   a. Takes the operands `offsets`, `rows` and `positions`, and the parameters `tokens`, `experts` and that named `k`. #}
{% macro place(x, k) %}
fn place(a: u32) {
    let all = params.tokens * params.{{ k }};
    let n = i32(params.experts);
    var own = -1;
    if a < all { own = ld_{{ x }}(at_{{ x }}(a / params.{{ k }}, a % params.{{ k }})); }
    var before = 0;
    var below = 0;
    var valid = 0;
    for (var t = 0u; t < params.tokens; t++) {
        for (var j = 0u; j < params.{{ k }}; j++) {
            let e = ld_{{ x }}(at_{{ x }}(t, j));
            if e < 0 || e >= n { continue; }
            valid++;
            if e < i32(a) { below++; }
            if e < own || (e == own && t * params.{{ k }} + j < a) { before++; }
        }
    }
    if a <= params.experts { st_offsets(at_offsets(a), below); }
    if a >= all { return; }
    if own >= 0 && own < n {
        st_positions(at_positions(a / params.{{ k }}, a % params.{{ k }}), before);
        st_rows(at_rows(u32(before)), i32(a / params.{{ k }}));
    } else {
        st_positions(at_positions(a / params.{{ k }}, a % params.{{ k }}), -1);
    }
    if i32(a) >= valid { st_rows(at_rows(a), -1); }
}
{% endmacro %}
