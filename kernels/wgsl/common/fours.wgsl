{# Columns of a head, four at a time: of an operand x [rows, heads, width], `four_x(row, head, c)` gives the
   columns c to c + 3, zero from params.<width> on. c is a multiple of 4. With `whole`, so is the width. #}
{% macro fours(name, x, width, whole) %}
fn four_{{ name }}(row: u32, head: u32, c: u32) -> vec4<f32> {
{% if x.contiguous %}
{% if whole %}
    return ld4_{{ name }}(at_{{ name }}(row, head, c));
{% else %}
    if c + 4u <= params.{{ width }} { return ld4_{{ name }}(at_{{ name }}(row, head, c)); }
{% endif %}
{% endif %}
{% if not (x.contiguous and whole) %}
    var v = vec4<f32>(0.0);
    for (var j = 0u; j < min(params.{{ width }} - c, 4u); j++) {
        v[j] = ld_{{ name }}(at_{{ name }}(row, head, c + j));
    }
    return v;
{% endif %}
}
{% endmacro %}
