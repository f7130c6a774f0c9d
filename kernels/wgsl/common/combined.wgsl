{# combined(t, c, m): the weighted sum of token t's rows of operand `from`, columns c, c + 1, … of it, in the order of
   its assignments, added to `start`. Takes the operands `positions` and, with `weighted`, `weights`, and the
   parameters `rows` and `k`. #}
{% macro combined(from, weighted, rows) %}
fn combined(start: vec4<f32>, t: u32, c: u32, m: u32) -> vec4<f32> {
    var sum = start;
    for (var j = 0u; j < params.k; j++) {
        let p = ld_positions(at_positions(t, j));
        if p >= 0 && u32(p) < params.{{ rows }} {
            sum += {% if weighted %}ld_weights(at_weights(t, j)) * {% endif %}get_{{ from }}(u32(p), c, m);
        }
    }
    return sum;
}
{% endmacro %}
