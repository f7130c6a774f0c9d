@compute @workgroup_size(64) fn main(
    @builtin(local_invocation_index) i: u32, @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_id) id: u32,
    @builtin(num_subgroups) count: u32
) {
    let a = x[i];
    let f = vec3(f32(a), 0.5, f32(i));
    var sum = size + lane * 2u + id * 3u + count * 5u;
    sum += subgroupAdd(a) + subgroupMul(a) + subgroupMin(a) + subgroupMax(a);
    sum += subgroupAnd(a) + subgroupOr(a) + subgroupXor(a);
    sum += subgroupInclusiveAdd(a) + subgroupExclusiveAdd(a) + subgroupInclusiveMul(a) + subgroupExclusiveMul(a);
    sum += u32(subgroupAdd(i32(a))) + u32(subgroupExclusiveMul(i32(a))) + u32(subgroupMin(i32(a)));
    sum += u32(subgroupAdd(f).y) + u32(subgroupMax(f.x)) + u32(subgroupInclusiveAdd(f.xy).x);
    sum += u32(subgroupAll(a > 2u)) + u32(subgroupAny(a > 2u)) + subgroupBallot(a > 2u).x + subgroupBallot().x;
    sum += subgroupBroadcast(a, 3u) + subgroupBroadcastFirst(a) + subgroupShuffle(a, lane ^ 1u);
    sum += subgroupShuffleXor(a, 2u) + subgroupShuffleUp(a, 1u) + u32(subgroupShuffleDown(f, 4u).z);
    subgroupBarrier();
    y[i] = sum;
}
