/* Times CLBlast's f32 matrix product on the first OpenCL device.
 *
 *     sgemm kn|nk SAMPLES MxNxK
 *
 * Prints the device's name to stderr, and as examples/matmul.rs does: "clblast", the median and the smallest of
 * the samples in milliseconds, and how long the first call took, which compiles. The last product is checked
 * against sums in double in a few places. */
#define CL_TARGET_OPENCL_VERSION 120
#include <clblast_c.h>
#include <CL/cl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void check(int code, const char *what) {
    if (code != 0) {
        fprintf(stderr, "sgemm: %s failed with code %d\n", what, code);
        exit(1);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The numbers that examples/matmul.rs multiplies. */
static float *numbers(size_t len, unsigned seed) {
    float *x = malloc(len * sizeof *x);
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / (float)(1 << 24) - 0.5f;
    }
    return x;
}

int main(int argc, char **argv) {
    size_t m, n, k;
    if (argc != 4 || (strcmp(argv[1], "kn") && strcmp(argv[1], "nk")) || atoi(argv[2]) < 1 ||
        sscanf(argv[3], "%zux%zux%zu", &m, &n, &k) != 3 || !m || !n || !k) {
        fprintf(stderr, "usage: sgemm kn|nk SAMPLES MxNxK\n");
        return 2;
    }
    int nk = strcmp(argv[1], "nk") == 0, samples = atoi(argv[2]);
    cl_platform_id platform;
    cl_device_id device;
    cl_int code;
    check(clGetPlatformIDs(1, &platform, NULL), "clGetPlatformIDs");
    check(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL), "clGetDeviceIDs");
    char name[256];
    check(clGetDeviceInfo(device, CL_DEVICE_NAME, sizeof name, name, NULL), "clGetDeviceInfo");
    fprintf(stderr, "%s\n", name);
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &code);
    check(code, "clCreateContext");
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, &code);
    check(code, "clCreateCommandQueue");
    float *x = numbers(m * k, 1), *y = numbers(k * n, 2), *got = malloc(m * n * sizeof *got);
    cl_mem_flags copy = CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR;
    cl_mem a = clCreateBuffer(context, copy, m * k * sizeof *x, x, &code);
    check(code, "clCreateBuffer");
    cl_mem b = clCreateBuffer(context, copy, k * n * sizeof *y, y, &code);
    check(code, "clCreateBuffer");
    cl_mem c = clCreateBuffer(context, CL_MEM_READ_WRITE, m * n * sizeof *got, NULL, &code);
    check(code, "clCreateBuffer");
    double *times = malloc((size_t)samples * sizeof *times), first = 0.0;
    for (int i = -1; i < samples; i++) {
        double start = now();
        CLBlastTranspose turned = nk ? CLBlastTransposeYes : CLBlastTransposeNo;
        check(CLBlastSgemm(CLBlastLayoutRowMajor, CLBlastTransposeNo, turned, m, n, k, 1.0f, a, 0, k, b, 0,
                           nk ? k : n, 0.0f, c, 0, n, &queue, NULL),
              "CLBlastSgemm");
        check(clFinish(queue), "clFinish");
        *(i < 0 ? &first : &times[i]) = now() - start;
    }
    check(clEnqueueReadBuffer(queue, c, CL_TRUE, 0, m * n * sizeof *got, got, 0, NULL, NULL), "reading");
    size_t rows[] = {0, m / 2, m - 1}, columns[] = {0, n / 3, n - 1};
    for (int r = 0; r < 3; r++) {
        for (int q = 0; q < 3; q++) {
            size_t i = rows[r], j = columns[q];
            double want = 0.0;
            for (size_t l = 0; l < k; l++) {
                want += (double)x[i * k + l] * (double)(nk ? y[j * k + l] : y[l * n + j]);
            }
            if (fabs(got[i * n + j] - want) > 1e-6 * (double)k) {
                fprintf(stderr, "sgemm: row %zu, column %zu: %g for %g\n", i, j, got[i * n + j], want);
                return 1;
            }
        }
    }
    qsort(times, (size_t)samples, sizeof *times, ascending);
    printf("clblast %.4f %.4f %.1f\n", times[samples / 2], times[0], first);
    return 0;
}
