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
    // No loop: lavapipe counts one even where it isn't entered.
    let last = params.{{ width }} - 1u;
    let v = vec4<f32>(
        ld_{{ name }}(at_{{ name }}(row, head, min(c, last))),
        ld_{{ name }}(at_{{ name }}(row, head, min(c + 1u, last))),
        ld_{{ name }}(at_{{ name }}(row, head, min(c + 2u, last))),
        ld_{{ name }}(at_{{ name }}(row, head, min(c + 3u, last))));
    return select(vec4<f32>(0.0), v, vec4<u32>(c, c + 1u, c + 2u, c + 3u) <= vec4<u32>(last));
{% endif %}
}
{% endmacro %}
