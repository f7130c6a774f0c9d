// Tiles of 16-bit elements in shared memory without unused bytes: rows of PIECES pieces of 16 bytes (a power of two),
// whose order in a row depends on the row, so that a piece of eight rows that follow each other, and eight pieces that
// follow each other, lie in eight different groups of four banks. `sets/matmul/mma.rs` has the same function, and
// tests that.

// Where piece `c` of row `r` lies, in bytes.
template <uint PIECES> __device__ __forceinline__ uint piece_at(uint r, uint c) {
    constexpr uint SPAN = PIECES < 8 ? PIECES : 8;
    return 16 * (r * PIECES + (c ^ (r / (8 / SPAN) % SPAN)));
}

// Copies to a tile the ROWS rows of `x` from `row` on, and of them as many columns from `column` on as it has; zeros
// from `row_end` and `column_end` on. ALIGNED: columns have no gaps, and rows and `column` begin at multiples of 16
// bytes; what is copied is there when it was waited for. Otherwise at once.
template <uint ROWS, uint PIECES, uint THREADS, bool ALIGNED>
__device__ __forceinline__ void stage(uint to, const ushort *x, uint row_step, uint column_step, uint row, uint row_end,
                                      uint column, uint column_end) {
#pragma unroll
    for (uint e = threadIdx.x; e < ROWS * PIECES; e += THREADS) {
        const uint r = e / PIECES, c = e % PIECES;
        const uint i = row + r, j = column + 8 * c;
        const uint n = i < row_end && j < column_end ? min(column_end - j, 8u) : 0;
        const uint at = to + piece_at<PIECES>(r, c);
        if (ALIGNED) {
            copy_some(at, x + (n > 0 ? i * row_step + j : 0), 2 * n);
        } else {
            uint w[4] = {0, 0, 0, 0};
#pragma unroll
            for (uint l = 0; l < 8; l++) {
                if (l < n) w[l / 2] |= (uint)x[i * row_step + (j + l) * column_step] << (16 * (l % 2));
            }
            asm volatile("st.shared.v4.b32 [%0], { %1, %2, %3, %4};" ::"r"(at), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3])
                         : "memory");
        }
    }
}

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
