// Which tile of which product a workgroup computes. `mode` is "dense" (a batch), "grouped" (the rows of a and c are
// spread over the experts, whose matrices are b) or "weight" (the sum is spread over the experts, whose matrices are c).

struct Part {
    // Which matrix, or expert.
    uint z;
    // Its first row, and the end of those that it may have.
    uint row, end;
    // Its first column.
    uint column;
    // What is summed over.
    uint k0, k1;
    // Whether these rows are multiplied; otherwise they are of no expert.
    bool live;
};

// Sets row and column to those of tile i of a product with `rows` rows of tiles, the first at `row`. Tiles go by bands of
// {{ band }} columns of them, row by row: those that run at a time share rows of a and columns of b, and b's part of a band
// is still in the cache for the next ones.
__device__ __forceinline__ void place(Part &p, uint i, uint rows, uint row, uint tiles_n) {
    const uint band = i / (rows * {{ band }});
    const uint first = band * {{ band }};
    const uint width = min(tiles_n - first, {{ band }}u);
    i -= first * rows;
    p.row = row + i / width * {{ tile_m }};
    p.column = (first + i % width) * {{ tile_n }};
}
{% if mode != "dense" %}

// Where the rows of expert e begin, which is where those of the one before it end.
__device__ __forceinline__ uint offset_of(const Params &params, const int *offsets, uint e) {
    return min((uint)max(offsets[e * params.offsets_s0], 0), params.rows);
}
{% endif %}
{% if mode == "grouped" %}

// The rows fall into segments: 0 before the first expert, then the experts', and one behind the last.
// Segment s starts with row of tiles start / {{ tile_m }} + s, so that each has enough.
__device__ __forceinline__ uint segment_start(const Params &params, const int *offsets, uint s) {
    if (s == 0) return 0;
    if (s == params.experts + 2) return params.rows;
    return offset_of(params, offsets, s - 1);
}

__device__ __forceinline__ Part part_of(const Params &params, const int *offsets, uint group) {
    const uint tile = group / params.tiles_n;
    uint low = 0, high = params.experts + 1;
    while (low < high) {
        const uint middle = (low + high + 1) / 2;
        if (segment_start(params, offsets, middle) / {{ tile_m }} + middle <= tile) low = middle;
        else high = middle - 1;
    }
    const uint start = segment_start(params, offsets, low);
    const uint end = max(segment_start(params, offsets, low + 1), start);
    const uint first = start / {{ tile_m }} + low;
    const uint rows = end / {{ tile_m }} + 1 - start / {{ tile_m }};
    Part p;
    p.live = low > 0 && low <= params.experts;
    p.z = p.live ? low - 1 : 0;
    // Sums that are added to leave rows of no expert alone.
    p.end = {% if accumulate %}p.live ? end : 0{% else %}end{% endif %};
    p.k0 = 0;
    p.k1 = p.live ? params.k : 0;
    place(p, group - first * params.tiles_n, rows, start, params.tiles_n);
    return p;
}
{% else %}

__device__ __forceinline__ Part part_of(const Params &params, const int *offsets, uint group) {
    const uint tiles = params.tiles_m * params.tiles_n;
    Part p;
    p.z = group / tiles;
    p.end = params.m;
    p.live = true;
{% if mode == "weight" %}
    p.k0 = offset_of(params, offsets, p.z);
    p.k1 = max(offset_of(params, offsets, p.z + 1), p.k0);
{% else %}
    p.k0 = 0;
    p.k1 = params.k;
{% endif %}
    place(p, group % tiles, params.tiles_m, 0, params.tiles_n);
    return p;
}
{% endif %}
