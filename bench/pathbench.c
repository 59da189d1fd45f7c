/* pathbench: what socksbench does not measure, mostly on slow paths. One connection through a SOCKS5 proxy to a
 * `socksbench target` (PROXYPORT 0: straight to the target). Exit status 1 means that something failed.
 *
 *   pathbench down    PROXYPORT TARGETPORT SKIP SECS    one stream's MB/s over SECS, after SKIP seconds
 *   pathbench up      PROXYPORT TARGETPORT SECS         one stream for SECS; its MB/s is what the kernel took, which is
 *                                                       not what arrived: ask the target for that
 *   pathbench fetch   PROXYPORT TARGETPORT BYTES        ms from connect() until BYTES have come
 *   pathbench ping    PROXYPORT TARGETPORT SECS GAP_MS  a 64-byte echo each GAP_MS on one connection, latency
 *   pathbench first   PROXYPORT TARGETPORT LIMIT        tries each 5 ms until an echo was served; prints when (CLOCK_MONOTONIC)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { ECHO = 64, PINGS_MAX = 1 << 20, STALL_S = 20 };

static char buffer[1 << 16];
static int proxy_port, target_port;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void nap(double seconds) {
  if (seconds <= 0) return;
  struct timespec t = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
  nanosleep(&t, NULL);
}

static int get(int fd, size_t bytes) {
  while (bytes > 0) {
    ssize_t n = recv(fd, buffer, bytes < sizeof buffer ? bytes : sizeof buffer, 0);
    if (n == 0) errno = ECONNRESET;
    if (n <= 0) return -1;
    bytes -= n;
  }
  return 0;
}

static int put(int fd, const void *data, size_t bytes) { return send(fd, data, bytes, MSG_NOSIGNAL) == (ssize_t)bytes ? 0 : -1; }

static int ask_socks(int fd) {
  unsigned char connect_to[10] = {5, 1, 0, 1, 127, 0, 0, 1, target_port >> 8, target_port & 255};
  if (put(fd, "\5\1\0", 3) || get(fd, 2) || put(fd, connect_to, sizeof connect_to) || get(fd, 10)) return -1;
  if (buffer[1] == 0) return 0;
  errno = ECONNREFUSED;
  return -1;
}

static int try_open(void) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(proxy_port ? proxy_port : target_port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct timeval patience = {.tv_sec = STALL_S};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  if (fd < 0) return -1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (connect(fd, (void *)&to, sizeof to) == 0 && (!proxy_port || ask_socks(fd) == 0)) return fd;
  int why = errno;
  close(fd);
  errno = why;
  return -1;
}

static int must_open(void) {
  int fd = try_open();
  if (fd >= 0) return fd;
  perror("open");
  exit(1);
}

static int bulk(int up, double skip, double seconds) {
  double begin = now(), from = begin + skip, until = from + seconds, t = begin, last = begin, mark = from;
  unsigned long long counted = 0;
  int fd = must_open(), counting = 0, failed = put(fd, up ? "D" : "S", 1) != 0;
  while (!failed && t < until) {
    ssize_t n = up ? send(fd, buffer, sizeof buffer, MSG_NOSIGNAL) : recv(fd, buffer, sizeof buffer, 0);
    t = now();
    if (n <= 0) {
      perror("transfer");
      failed = 1;
    } else if (counting) {
      counted += n;
      last = t;
    } else if (t >= from) {
      counting = 1;
      mark = t;
    }
  }
  double over = last - mark;
  printf("MBps=%.3f errors=%d\n", over > 0 ? counted / over / 1e6 : 0, failed);
  return failed;
}

static int fetch(size_t bytes) {
  double begin = now();
  int fd = must_open();
  int failed = put(fd, "S", 1) || get(fd, 1);
  double first = now();
  failed = failed || get(fd, bytes - 1);
  printf("ms=%.1f first_ms=%.1f errors=%d\n", (now() - begin) * 1e3, (first - begin) * 1e3, failed);
  return failed;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static int ping(double seconds, double gap) {
  double dialled = now(), *took = malloc(PINGS_MAX * sizeof *took);
  int fd = must_open(), n = 0, failed = put(fd, "E", 1) != 0;
  double begin = now(), open_ms = (begin - dialled) * 1e3;
  while (!failed && n < PINGS_MAX && now() - begin < seconds) {
    double sent = now();
    failed = put(fd, buffer, ECHO) || get(fd, ECHO);
    if (!failed) took[n++] = (now() - sent) * 1e3;
    nap(sent + gap - now());
  }
  if (failed) perror("echo");
  qsort(took, n, sizeof *took, ascending);
  printf("open_ms=%.2f echoes=%d p50_ms=%.3f p99_ms=%.3f max_ms=%.3f errors=%d\n", open_ms, n, n ? took[n / 2] : 0,
         n ? took[n * 99 / 100] : 0, n ? took[n - 1] : 0, failed);
  return failed;
}

static int first(double limit) {
  double begin = now();
  for (int tries = 1; now() - begin < limit; tries++) {
    double at = now();
    int fd = try_open();
    if (fd >= 0 && put(fd, "E", 1) == 0 && put(fd, buffer, ECHO) == 0 && get(fd, ECHO) == 0) {
      printf("served_at=%.6f tries=%d errors=0\n", now(), tries);
      return 0;
    }
    if (fd >= 0) close(fd);
    nap(at + 0.005 - now());
  }
  printf("served_at=0 tries=0 errors=1\n");
  return 1;
}

int main(int n, char **v) {
  signal(SIGPIPE, SIG_IGN);
  const char *mode = n > 4 ? v[1] : "";
  proxy_port = n > 4 ? atoi(v[2]) : 0;
  target_port = n > 4 ? atoi(v[3]) : 0;
  if (n == 6 && !strcmp(mode, "down")) return bulk(0, atof(v[4]), atof(v[5]));
  if (n == 5 && !strcmp(mode, "up")) return bulk(1, 0, atof(v[4]));
  if (n == 6 && !strcmp(mode, "ping")) return ping(atof(v[4]), atof(v[5]) / 1e3);
  if (n == 5 && !strcmp(mode, "fetch")) return fetch(strtoull(v[4], NULL, 10));
  if (n == 5 && !strcmp(mode, "first")) return first(atof(v[4]));
  fprintf(stderr, "usage: see the head of pathbench.c\n");
  return 2;
}
