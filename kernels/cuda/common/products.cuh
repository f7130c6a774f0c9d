// Products of a warp's 16 rows with tiles, for attention's gradients. H says what elements are.

// s = rows of tile `a`, from `row` on, times rows of tile `b`, both of COLUMNS columns.
template <typename H, uint COLUMNS, uint N>
__device__ __forceinline__ void products(float (&s)[N / 8][4], uint a, uint row, uint b) {
#pragma unroll
    for (uint n = 0; n < N / 8; n++) {
        for (uint i = 0; i < 4; i++) s[n][i] = 0.0f;
    }
#pragma unroll
    for (uint c = 0; c < COLUMNS; c += 16) {
        uint x[4];
        load_matrices(x, block_down(a, COLUMNS, row, c));
#pragma unroll
        for (uint n = 0; n < N / 16; n++) {
            uint y[4];
            load_matrices(y, block_across(b, COLUMNS, 16 * n, c));
            H::mma(s[2 * n], x, y[0], y[1]);
            H::mma(s[2 * n + 1], x, y[2], y[3]);
        }
    }
}

// sum += s, as sums of PIECES numbers of 16 bits, times the N rows of tile `b`.
template <typename H, uint COLUMNS, uint N, uint PIECES>
__device__ __forceinline__ void gather(float (&sum)[COLUMNS / 8][4], const float (&s)[N / 8][4], uint b) {
#pragma unroll
    for (uint n = 0; n < N / 16; n++) {
        uint x[PIECES][4];
#pragma unroll
        for (uint i = 0; i < 4; i++) {
            float x0 = s[2 * n + i / 2][i % 2 * 2], x1 = s[2 * n + i / 2][i % 2 * 2 + 1];
#pragma unroll
            for (uint w = 0; w < PIECES; w++) {
                x[w][i] = H::pack(x0, x1);
                x0 -= H::low(x[w][i]);
                x1 -= H::high(x[w][i]);
            }
        }
#pragma unroll
        for (uint c = 0; c < COLUMNS / 16; c++) {
            uint y[4];
            load_transposed(y, block_down(b, COLUMNS, 16 * n, 16 * c));
#pragma unroll
            for (uint w = 0; w < PIECES; w++) {
                H::mma(sum[2 * c], x[w], y[0], y[1]);
                H::mma(sum[2 * c + 1], x[w], y[2], y[3]);
            }
        }
    }
}
