{# turn_x(t, h, unit): rotates a unit of the columns of x [tokens, heads, d] and gives it to `put`. Takes the operands
   `cos`, `sin` and `index`, and the parameters `half`, `turned`, `d`, `last` and `sign`. #}
{% macro turn(x, put, interleaved, step) %}
// A unit is up to {{ step }} pairs of a head, or as many columns behind those that are turned.
fn turn_{{ x }}(t: u32, h: u32, unit: u32) {
    let p = u32(clamp(ld_index(at_index(t)), 0, params.last));
{% if interleaved %}
    let c = unit * {{ step }}u;
    let m = min(params.d - c, {{ step }}u);
    let v = get_{{ x }}(t, h, c, m);
    if c >= params.half * 2u {
        {{ put }}(t, h, c, m, v);
        return;
    }
    let n = {{ step // 2 }}u;
    let w = vec4<f32>(-1.0, 1.0, -1.0, 1.0) * params.sign;
    {{ put }}(t, h, c, m, v * get_cos(p, c / 2u, n).xxyy + w * v.yxwz * get_sin(p, c / 2u, n).xxyy);
{% else %}
    if unit >= params.turned {
        let c = params.half * 2u + (unit - params.turned) * {{ step }}u;
        let m = min(params.d - c, {{ step }}u);
        {{ put }}(t, h, c, m, get_{{ x }}(t, h, c, m));
        return;
    }
    let i = unit * {{ step }}u;
    let a = get_{{ x }}(t, h, i, {{ step }}u);
    let b = get_{{ x }}(t, h, params.half + i, {{ step }}u);
    let c = get_cos(p, i, {{ step }}u);
    let s = get_sin(p, i, {{ step }}u) * params.sign;
    {{ put }}(t, h, i, {{ step }}u, a * c - b * s);
    {{ put }}(t, h, params.half + i, {{ step }}u, a * s + b * c);
{% endif %}
}
{% endmacro %}
