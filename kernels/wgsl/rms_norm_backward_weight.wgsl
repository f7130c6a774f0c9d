{# Sums over the rows of a part, four columns an invocation. #}
{% from "chunks.wgsl" import getter, putter, main %}
{{ getter("dy", dy) }}
{{ getter("x", x) }}
{{ putter("y", y) }}
fn item(part: u32, c: u32, m: u32) {
    var sum = vec4<f32>(0.0);
    let end = min((part + 1u) * params.deep, params.rows);
    for (var r = part * params.deep; r < end; r++) {
        sum += get_dy(r, c, m) * get_x(r, c, m) * ld_rstd(at_rstd(r));
    }
    put_y(part, c, m, sum);
}
{{ main(2, workgroup, workgroup_size) }}
