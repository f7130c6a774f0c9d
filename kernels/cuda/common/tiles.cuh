// Tiles of rows of 16-bit elements in shared memory, as attention stages them. A row is followed by 16 unused bytes:
// rows are an odd number of 16-byte pieces apart, so the eight rows of a matrix, and eight pieces in a row, lie in
// eight different groups of four banks. Columns come by 16.

// Bytes from one row of a tile to the next.
__device__ constexpr uint pitch(uint columns) { return 2 * columns + 16; }

// Copies piece `c` (of 8 columns) of a row to `to`; zeros where there is no row. ALIGNED: rows begin at multiples of 16
// bytes and have no gaps. Otherwise the copy is there at once.
template <bool ALIGNED>
__device__ __forceinline__ void stage_piece(uint to, const ushort *row, uint column_step, uint c, bool there) {
    if (ALIGNED) {
        copy_16(to, row + 8 * c, there);
        return;
    }
    uint w[4] = {0, 0, 0, 0};
    if (there) {
        for (uint i = 0; i < 8; i++) w[i / 2] |= (uint)row[(8 * c + i) * column_step] << (16 * (i % 2));
    }
    store_16(to, w);
}

// Copies ROWS rows from `first` on, those before `end`, to a tile.
template <uint ROWS, uint COLUMNS, uint THREADS, bool ALIGNED>
__device__ __forceinline__ void stage(uint to, const ushort *from, uint row_step, uint column_step, uint first, uint end) {
    constexpr uint PIECES = COLUMNS / 8;
#pragma unroll 4
    for (uint e = threadIdx.x; e < ROWS * PIECES; e += THREADS) {
        uint r = e / PIECES, c = e % PIECES;
        bool there = first + r < end;
        const ushort *row = from + (unsigned long long)(there ? first + r : 0) * row_step;
        stage_piece<ALIGNED>(to + r * pitch(COLUMNS) + 16 * c, row, column_step, c, there);
    }
}

// A row of those that share a kv head.
struct Place {
    uint token, head;
    bool there;
};

// The rows that share a kv head: its heads of a token, filled up to `params.pitch`, then those of the next.
struct Heads {
    uint first, share, pitch, tokens;
    __device__ Heads(const Params &params, uint kv_head)
        : first(kv_head * params.share), share(params.share), pitch(params.pitch), tokens(params.tokens) {}
    __device__ __forceinline__ Place place(uint row) const {
        const uint token = row / pitch, head = row % pitch;
        return {token, first + head, token < tokens && head < share};
    }
};

// Copies ROWS of those from `first` on, those before `end`, to a tile.
template <uint ROWS, uint COLUMNS, uint THREADS, bool ALIGNED>
__device__ __forceinline__ void stage_heads(
    uint to, const ushort *from, uint token_step, uint head_step, uint column_step, const Heads &heads, uint first,
    uint end = 0xffffffffu
) {
    constexpr uint PIECES = COLUMNS / 8;
#pragma unroll
    for (uint e = threadIdx.x; e < ROWS * PIECES; e += THREADS) {
        const uint r = e / PIECES, c = e % PIECES;
        const Place at = heads.place(first + r);
        const bool there = at.there && first + r < end;
        const ushort *row = from + (there ? (unsigned long long)at.token * token_step + at.head * head_step : 0);
        stage_piece<ALIGNED>(to + r * pitch(COLUMNS) + 16 * c, row, column_step, c, there);
    }
}

// Where this lane's part of a 16 by 16 block at `row`, `column` begins, for `load_matrices`: as A of a product, or
// transposed as two blocks of B whose rows lie along k.
__device__ __forceinline__ uint block_down(uint tile, uint columns, uint row, uint column) {
    uint lane = threadIdx.x % 32;
    return tile + (row + lane % 16) * pitch(columns) + 2 * column + 16 * (lane / 16);
}

// The same, as two blocks of B whose rows are columns of the product.
__device__ __forceinline__ uint block_across(uint tile, uint columns, uint row, uint column) {
    uint lane = threadIdx.x % 32;
    return tile + (row + lane % 8 + lane / 16 * 8) * pitch(columns) + 2 * column + 16 * (lane / 8 % 2);
}
