/* Measures the float32 multiply-add peak of this machine in GFLOP/s, the divisor of "share of the
 * peak" in docs/performance.md. Each processor runs one thread with independent chains of vector
 * multiply-adds in registers, so only the arithmetic units limit the rate.
 *
 *   gcc -O3 -march=native -ffp-contract=fast -pthread fma_peak.c -o fma_peak && ./fma_peak
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef __AVX512F__
#define WIDTH 16
#else
#define WIDTH 8
#endif
#define CHAINS 12 /* enough for two units with a latency of up to 5 cycles; fits into registers */
#define EACH(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)
#define TURNS 100000000L
#define REPEATS 5

typedef float vec __attribute__((vector_size(WIDTH * sizeof(float))));

static void *work(void *sum) {
  vec factor, addend;
  for (int i = 0; i < WIDTH; i++) {
    factor[i] = 0.999999f;
    addend[i] = 1e-6f;
  }
  /* Variables instead of an array, so that they stay in registers. */
#define BEGIN(c) vec chain##c = factor + (float)c;
#define STEP(c) chain##c = chain##c * factor + addend;
#define ADD(c) total += chain##c[0];
  EACH(BEGIN)
  for (long turn = 0; turn < TURNS; turn++) {
    EACH(STEP)
    __asm__ volatile("" : "+v"(chain0)); /* keeps the compiler from merging turns */
  }
  float total = 0;
  EACH(ADD)
  *(float *)sum = total;
  return NULL;
}

int main(void) {
  cpu_set_t usable;
  sched_getaffinity(0, sizeof usable, &usable);
  int threads = CPU_COUNT(&usable);
  pthread_t *thread = malloc(threads * sizeof *thread);
  float *sums = malloc(threads * sizeof *sums);
  double best = 0;
  for (int repeat = 0; repeat < REPEATS; repeat++) {
    struct timespec start, stop;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int t = 0; t < threads; t++) pthread_create(&thread[t], NULL, work, &sums[t]);
    for (int t = 0; t < threads; t++) pthread_join(thread[t], NULL);
    clock_gettime(CLOCK_MONOTONIC, &stop);
    double seconds = stop.tv_sec - start.tv_sec + (stop.tv_nsec - start.tv_nsec) * 1e-9;
    double gflops = 2.0 * WIDTH * CHAINS * TURNS * threads / seconds * 1e-9;
    if (gflops > best) best = gflops;
  }
  printf("%.1f GFLOP/s float32 multiply-add, %d threads, vectors of %d (check %g)\n", best,
         threads, WIDTH, sums[0]);
  return 0;
}
