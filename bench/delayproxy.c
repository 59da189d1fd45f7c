/* delayproxy: a TCP relay that behaves like a long path with a bottleneck.
 *
 *   delayproxy LISTENPORT TARGETPORT DELAY_MS RATE_MBIT
 *
 * Every byte leaves DELAY_MS after the bottleneck has sent it, in both directions, so the round trip is 2 x DELAY_MS.
 * A direction is one line shared by all connections: it sends whole packets one after the other at RATE_MBIT. It holds
 * at most 2 x rate x round trip (queue and flight together); when that is full nothing more is read, which is how the
 * sender gets to know, in place of a lost packet.
 *
 * What the kernel adds. The sockets of this process are part of the model's path, and a real bottleneck has no megabytes
 * of socket buffer in it: an echo would wait behind them, and a sender would believe that data had left which had not.
 * So SO_RCVBUF is one bandwidth-delay product (rate x round trip), at least 16 KiB so that loopback TCP does not stall
 * between two window updates, and at most 256 KiB, which is 2.6 ms of 800 Mbit/s: more than this process ever sleeps,
 * so the rate is not limited by it. SO_SNDBUF lies behind the line and fills only when the receiver does not
 * read; it is bounded the same way. Segments are 1448 bytes (TCP_MAXSEG): with loopback's 64 KiB segments a buffer of
 * 16 KiB could not even take one.
 *
 * What it does not model: loss, jitter, and slow start (both halves are loopback connections with their own congestion
 * control). The handshake's round trip is modelled: nothing leaves a new connection before it would have been open.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PACKET = 1448, READ_MAX = 65536, CONNS_MAX = 4096 };
#define NEVER 1e18
#define WAKE_MIN 250e-6 /* packets due within this are sent by one wake-up */
#define PAUSE_MAX 10e-3 /* a receiver that blocks longer pauses its packets, so that they do not come in one burst */

struct line { double free_at; };                /* when the bottleneck of this direction has sent what it was given */
struct packet { double leaves; unsigned size; }; /* size 0: end of stream */

struct side { int fd; bool readable, writable; };

struct pipe {
  struct side *from, *to;
  struct line *line;
  double opens, pause;
  char *data;
  size_t start, stored;
  struct packet *queue;
  size_t first, packets;
  bool ended, finished;
};

struct conn { struct side near, far; struct pipe up, down; bool broken; };

static double delay, rate, depth; /* seconds, bytes/s, how far ahead of now a line may be booked (seconds) */
static size_t capacity, packets_max;
static int socket_buffer, target_port;
static struct line lines[2];
static struct conn *conns[CONNS_MAX];
static int count;
static int epoll_fd;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) { perror(what); exit(1); }

static void set(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

static int new_socket(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  set(fd, SOL_SOCKET, SO_RCVBUF, socket_buffer);
  set(fd, SOL_SOCKET, SO_SNDBUF, socket_buffer);
  set(fd, IPPROTO_TCP, TCP_MAXSEG, PACKET);
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  return fd;
}

static struct sockaddr_in loopback(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void pipe_init(struct pipe *p, struct side *from, struct side *to, struct line *line, double opens) {
  p->from = from, p->to = to, p->line = line, p->opens = opens;
  p->data = malloc(capacity); /* touched, and so paid for, only as far as the queue gets */
  p->queue = malloc(packets_max * sizeof *p->queue);
  if (!p->data || !p->queue) die("malloc");
}

static void watch(struct side *side) {
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = side};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, side->fd, &e);
}

static void open_conn(int fd) {
  int far = count < CONNS_MAX ? new_socket() : -1;
  struct sockaddr_in to = loopback(target_port);
  if (far < 0 || (connect(far, (void *)&to, sizeof to) && errno != EINPROGRESS)) {
    if (far >= 0) close(far);
    close(fd);
    return;
  }
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  struct conn *c = calloc(1, sizeof *c);
  double t = now();
  c->near.fd = fd, c->far.fd = far;
  pipe_init(&c->up, &c->near, &c->far, &lines[0], t + 3 * delay);   /* SYN, SYN-ACK, first data */
  pipe_init(&c->down, &c->far, &c->near, &lines[1], t + 4 * delay); /* the acceptor knows one delay later */
  watch(&c->near);
  watch(&c->far);
  conns[count++] = c;
}

static void close_conn(struct conn *c) {
  close(c->near.fd);
  close(c->far.fd);
  free(c->up.data), free(c->up.queue), free(c->down.data), free(c->down.queue);
  free(c);
}

static void enqueue(struct pipe *p, unsigned size, double t) {
  struct line *line = p->line;
  line->free_at = (line->free_at > t ? line->free_at : t) + size / rate;
  double leaves = line->free_at + delay;
  struct packet *slot = &p->queue[(p->first + p->packets++) % packets_max];
  *slot = (struct packet){.leaves = leaves > p->opens ? leaves : p->opens, .size = size};
}

static bool room(const struct pipe *p) {
  return !p->ended && p->stored < capacity && p->packets + READ_MAX / PACKET + 2 < packets_max;
}

/* Reads once, as much as the line has room for; says whether it may be worth another turn. */
static bool take(struct pipe *p, struct conn *c) {
  double t = now(), booked = p->line->free_at - t;
  if (!p->from->readable || !room(p) || booked >= depth) return false;
  double fits = (depth - (booked > 0 ? booked : 0)) * rate;
  size_t want = fits < PACKET ? PACKET : fits > READ_MAX ? READ_MAX : (size_t)fits;
  size_t end = (p->start + p->stored) % capacity;
  if (want > capacity - p->stored) want = capacity - p->stored;
  if (want > capacity - end) want = capacity - end;
  ssize_t n = read(p->from->fd, p->data + end, want);
  if (n < 0) {
    p->from->readable = false;
    if (errno != EAGAIN && errno != EINTR) c->broken = true;
    return false;
  }
  if (n == 0) {
    p->ended = true;
    enqueue(p, 0, t);
    return false;
  }
  p->stored += n;
  for (size_t left = n; left > 0;) {
    unsigned size = left < PACKET ? left : PACKET;
    enqueue(p, size, t);
    left -= size;
  }
  return true;
}

static void drop(struct pipe *p, size_t bytes) {
  p->start = (p->start + bytes) % capacity;
  p->stored -= bytes;
  while (bytes > 0) {
    struct packet *head = &p->queue[p->first];
    if (head->size > bytes) {
      head->size -= bytes;
      return;
    }
    bytes -= head->size;
    p->first = (p->first + 1) % packets_max, p->packets--;
  }
}

static size_t due(const struct pipe *p, double t) {
  size_t bytes = 0;
  for (size_t i = 0; i < p->packets; i++) {
    const struct packet *x = &p->queue[(p->first + i) % packets_max];
    if (x->leaves + p->pause > t || x->size == 0) break;
    bytes += x->size;
  }
  return bytes;
}

static void give(struct pipe *p, struct conn *c) {
  double t = now();
  if (!p->to->writable || p->packets == 0) return;
  double waited = t - p->queue[p->first].leaves - p->pause;
  if (waited > PAUSE_MAX) p->pause += waited - PAUSE_MAX;
  size_t bytes = due(p, t);
  if (bytes > 0) {
    size_t flat = capacity - p->start < bytes ? capacity - p->start : bytes;
    struct iovec parts[2] = {{p->data + p->start, flat}, {p->data, bytes - flat}};
    ssize_t n = writev(p->to->fd, parts, bytes > flat ? 2 : 1);
    if (n < 0 && errno != EAGAIN && errno != EINTR) c->broken = true;
    if (n < (ssize_t)bytes) p->to->writable = false;
    if (n > 0) drop(p, n);
  }
  struct packet *head = &p->queue[p->first];
  if (p->packets && head->size == 0 && head->leaves + p->pause <= t) {
    shutdown(p->to->fd, SHUT_WR);
    p->packets--, p->finished = true;
  }
}

static double next_event(const struct pipe *p) {
  double at = NEVER;
  if (p->packets && p->to->writable) at = p->queue[p->first].leaves + p->pause;
  if (p->from->readable && room(p)) {
    double gate = p->line->free_at - depth + PACKET / rate;
    if (gate < at) at = gate;
  }
  return at;
}

static void serve_all(void) {
  static unsigned first;
  bool more = true;
  first++;
  while (more) {
    more = false;
    for (int i = 0; i < count; i++) {
      struct conn *c = conns[(i + first) % (unsigned)count];
      if (take(&c->up, c)) more = true;
      if (take(&c->down, c)) more = true;
      give(&c->up, c);
      give(&c->down, c);
    }
  }
  for (int i = 0; i < count;) {
    struct conn *c = conns[i];
    if (c->broken || (c->up.finished && c->down.finished)) {
      close_conn(c);
      conns[i] = conns[--count];
    } else i++;
  }
}

static void arm(int timer) {
  double at = NEVER, soonest = now() + WAKE_MIN;
  for (int i = 0; i < count; i++) {
    double up = next_event(&conns[i]->up), down = next_event(&conns[i]->down);
    if (up < at) at = up;
    if (down < at) at = down;
  }
  struct itimerspec when = {0};
  if (at < NEVER) {
    if (at < soonest) at = soonest;
    when.it_value.tv_sec = (time_t)at;
    when.it_value.tv_nsec = (long)((at - (time_t)at) * 1e9);
  }
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, 0);
}

static int listen_on(int port) {
  int fd = new_socket();
  struct sockaddr_in at = loopback(port);
  if (fd < 0) die("socket");
  set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (bind(fd, (void *)&at, sizeof at) || listen(fd, 1024)) die("bind");
  return fd;
}

static void configure(char **v) {
  target_port = atoi(v[2]);
  delay = atof(v[3]) / 1e3;
  rate = atof(v[4]) * 1e6 / 8;
  double bdp = rate * 2 * delay;
  depth = 3 * delay; /* with one delay in flight: 4 x delay x rate = 2 x rate x round trip */
  if (depth < 4 * PACKET / rate) depth = 4 * PACKET / rate;
  if (depth < 2e-3) depth = 2e-3;
  capacity = (size_t)((depth + delay) * rate) + READ_MAX;
  packets_max = capacity / 256 + 1024;
  socket_buffer = bdp < (16 << 10) ? 16 << 10 : bdp > (256 << 10) ? 256 << 10 : (int)bdp;
}

int main(int n, char **v) {
  if (n != 5 || atof(v[4]) <= 0) {
    fprintf(stderr, "usage: delayproxy LISTENPORT TARGETPORT DELAY_MS RATE_MBIT\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_TIMERSLACK, 1000);
  configure(v);
  int listener = listen_on(atoi(v[1])), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct side listens = {.fd = listener}, ticks = {.fd = timer};
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = &listens}, events[256];
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
  e.data.ptr = &ticks;
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &e);
  for (;;) {
    int k = epoll_wait(epoll_fd, events, 256, -1);
    for (int i = 0; i < k; i++) {
      struct side *side = events[i].data.ptr;
      if (side == &listens) {
        for (int fd; (fd = accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) open_conn(fd);
      } else if (side == &ticks) {
        unsigned long long ignored;
        if (read(timer, &ignored, sizeof ignored) < 0 && errno != EAGAIN) die("timer");
      } else {
        if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) side->readable = true;
        if (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) side->writable = true;
      }
    }
    serve_all();
    arm(timer);
  }
}
