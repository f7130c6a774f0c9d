// Sum and maximum over the workgroup, the same on every invocation, in an order that depends on nothing but
// the workgroup's size and the device. All invocations must call them; where barriers are needed, each call ends
// with one passed.
{% if subgroup %}
// The workgroup is one subgroup.
fn workgroup_sum(lane: u32, x: f32) -> f32 { return subgroupAdd(x); }
fn workgroup_max(lane: u32, x: f32) -> f32 { return subgroupMax(x); }
{% elif workgroup_size > 1 %}
var<workgroup> reduce_: array<f32, {{ workgroup_size }}>;

fn workgroup_sum(lane: u32, x: f32) -> f32 {
    reduce_[lane] = x;
    workgroupBarrier();
    for (var n = {{ workgroup_size }}u / 2u; n > 0u; n >>= 1u) {
        if lane < n { reduce_[lane] += reduce_[lane + n]; }
        workgroupBarrier();
    }
    let sum = reduce_[0];
    workgroupBarrier();
    return sum;
}

fn workgroup_max(lane: u32, x: f32) -> f32 {
    reduce_[lane] = x;
    workgroupBarrier();
    for (var n = {{ workgroup_size }}u / 2u; n > 0u; n >>= 1u) {
        if lane < n { reduce_[lane] = max(reduce_[lane], reduce_[lane + n]); }
        workgroupBarrier();
    }
    let largest = reduce_[0];
    workgroupBarrier();
    return largest;
}
{% else %}
fn workgroup_sum(lane: u32, x: f32) -> f32 { return x; }
fn workgroup_max(lane: u32, x: f32) -> f32 { return x; }
{% endif %}
