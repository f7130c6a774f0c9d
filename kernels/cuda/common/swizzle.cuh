// Tiles of 16-bit elements in shared memory without unused bytes: rows of PIECES pieces of 16 bytes (a power of two),
// whose order in a row depends on the row, so that a piece of eight rows that follow each other, and eight pieces that
// follow each other, lie in eight different groups of four banks. `sets/matmul/mma.rs` has the same function, and
// tests that.

// Where piece `c` of row `r` lies, in bytes.
template <uint PIECES> __device__ __forceinline__ uint piece_at(uint r, uint c) {
    constexpr uint SPAN = PIECES < 8 ? PIECES : 8;
    return 16 * (r * PIECES + (c ^ (r / (8 / SPAN) % SPAN)));
}

// This thread's part in copying tiles of ROWS rows of a matrix, one after another: the same piece of rows BY apart, which
// lie equally far apart in a tile. What is beyond the matrix's end is zero. ALIGNED: columns have no gaps, and rows and
// tiles begin at multiples of 16 bytes; what is copied is there when it was waited for. Otherwise at once.
template <uint ROWS, uint PIECES, uint THREADS, bool ALIGNED> struct Copier {
    static constexpr uint BY = THREADS / PIECES;
    static_assert(THREADS % (8 * PIECES) == 0 && ROWS % BY == 0, "the order of pieces is that of every 8th row");
    // The first element, and what is left of the matrix from there on.
    const ushort *from;
    int rows, columns;
    uint row_step, column_step;
    // Where it goes, in a tile.
    uint place;

    __device__ __forceinline__ Copier(const ushort *x, uint row_step, uint column_step, uint row, uint row_end, uint column,
                                      uint column_end)
        : row_step(row_step), column_step(column_step) {
        const uint r = threadIdx.x / PIECES, c = threadIdx.x % PIECES;
        from = x + (unsigned long long)(row + r) * row_step + (unsigned long long)(column + 8 * c) * column_step;
        rows = (int)(row_end - row - r);
        columns = (int)(column_end - column - 8 * c);
        place = piece_at<PIECES>(r, c);
    }

    // Goes on to the tile so many rows and columns further.
    __device__ __forceinline__ void advance(uint by_rows, uint by_columns) {
        from += (unsigned long long)by_rows * row_step + (unsigned long long)by_columns * column_step;
        rows -= by_rows;
        columns -= by_columns;
    }

    __device__ __forceinline__ void copy(uint tile) const {
        const uint n = min(max(columns, 0), 8);
#pragma unroll
        for (uint i = 0; i < ROWS / BY; i++) {
            const bool there = (int)(i * BY) < rows;
            const ushort *at = from + (unsigned long long)(i * BY) * row_step;
            const uint to = tile + place + 16 * i * THREADS;
            if (ALIGNED) {
                copy_some(to, at, there ? 2 * n : 0);
            } else {
                uint w[4] = {0, 0, 0, 0};
#pragma unroll
                for (uint l = 0; l < 8; l++) {
                    if (there && l < n) w[l / 2] |= (uint)at[l * column_step] << (16 * (l % 2));
                }
                store_16(to, w);
            }
        }
    }
};

// This lane's place in the 16 by 16 block at `row` and `piece`, for `load_matrices`: of A if rows are rows of it; for
// `load_transposed`: of two blocks of B, if rows lie along k.
template <uint PIECES> __device__ __forceinline__ uint block_down(uint tile, uint row, uint piece) {
    const uint lane = threadIdx.x % 32;
    return tile + piece_at<PIECES>(row + lane % 16, piece + lane / 16);
}

// The same, for `load_matrices` of two blocks of B whose columns are rows here, and `load_transposed` of A whose rows
// lie along k.
template <uint PIECES> __device__ __forceinline__ uint block_across(uint tile, uint row, uint piece) {
    const uint lane = threadIdx.x % 32;
    return tile + piece_at<PIECES>(row + lane % 8 + lane / 16 * 8, piece + lane / 8 % 2);
}
