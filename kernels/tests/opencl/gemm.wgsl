// c = scale * a b in tiles of 16 by 16 through workgroup memory; each invocation has a column of 4 rows.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<u32>;

const TILE = 16u;

var<workgroup> tile_a: array<f32, 256>;
var<workgroup> tile_b: array<array<vec4<f32>, 4>, 16>;

fn load_tiles(first: u32, group: vec3<u32>, index: u32) {
    for (var i = index; i < TILE * TILE; i += 64u) {
        let row = i / TILE;
        let column = i % TILE;
        var value = 0.0;
        if first + column < params.k {
            value = a[(group.y * TILE + row) * params.k + first + column];
        }
        tile_a[i] = value;
    }
    let row = index / 4u;
    if first + row < params.k {
        tile_b[row][index % 4u] = b[((first + row) * params.n + group.x * TILE) / 4u + index % 4u];
    } else {
        tile_b[row][index % 4u] = vec4(0.0);
    }
}

@compute @workgroup_size(16, 4)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var sums: array<f32, 4>;
    for (var first = 0u; first < params.k; first += TILE) {
        load_tiles(first, group, index);
        workgroupBarrier();
        for (var i = 0u; i < TILE; i++) {
            let right = tile_b[i][local.x / 4u][local.x % 4u];
            for (var j = 0u; j < 4u; j++) {
                sums[j] += tile_a[(local.y * 4u + j) * TILE + i] * right;
            }
        }
        workgroupBarrier();
    }
    for (var j = 0u; j < 4u; j++) {
        let row = group.y * TILE + local.y * 4u + j;
        c[row * params.n + group.x * TILE + local.x] = bitcast<u32>(sums[j] * params.scale);
    }
}
