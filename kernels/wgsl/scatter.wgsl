{% from "chunks.wgsl" import getter, putter, main %}
{{ getter("x", x) }}
{{ putter("y", y) }}
{% if accumulate %}
{{ getter("y", y) }}
{% endif %}
fn item(n: u32, c: u32, m: u32) {
    let i = ld_index(at_index(n));
    if i < 0 || u32(i) >= params.rows { return; }
{% if accumulate %}
    // The first of the entries for a row adds up all of them.
    var next = ld_links(at_links(n));
    if next < 0 { return; }
    var sum = get_y(u32(i), c, m) + get_x(n, c, m);
    while next > 0 {
        sum += get_x(u32(next), c, m);
        // That of an entry which isn't the first.
        next = -1 - ld_links(at_links(u32(next)));
    }
    put_y(u32(i), c, m, sum);
{% else %}
    put_y(u32(i), c, m, get_x(n, c, m));
{% endif %}
}
{{ main(2, workgroup, workgroup_size) }}
