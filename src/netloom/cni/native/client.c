/* The CNI plugin that the runtime executes: hands the call to the agent and prints its answer.

       runtime --environment, stdin--> client --one frame, CNI_NETNS as a descriptor--> agent
       runtime <--stdout, exit code--- client <--accepting byte, then the answer------- agent

   The same duties, bounds and words as ../client.py, for hosts without Python and for speed: a call costs 0.2 ms instead of 6.
   There is no C library below this file, hence no allocation, no locale, no loader, and nothing to link against:
   system calls, a few static buffers, and code that one can read in one sitting.  (Statics start as zeros: an initial value costs a file page.)

   The tricky thing is what does not happen: no read, connect or send waits without a deadline, no length that came from
   outside is used before it was compared with a bound, and no path from the runtime is opened in a way that blocks.

   Numbers of the frame are little endian, as both supported machines are.  build.py compiles this file. */

#include <asm/poll.h>
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/limits.h>
#include <linux/time_types.h>

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

_Static_assert(sizeof(u32) == 4 && sizeof(u64) == 8 && sizeof(void *) == 8, "an LP64 machine");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a little endian machine");

enum { INVALID_ENVIRONMENT = 4, IO_FAILURE = 5, TRY_AGAIN = 11, NOT_AVAILABLE = 50, INTERNAL = 999 };
enum { HEADER = 12, ENVIRONMENT_LIMIT = 65536, STDIN_LIMIT = 1048576, ANSWER_LIMIT = 1048576, PATH_LIMIT = 4096 };
enum { STDIN_MS = 10000, VERSION_MS = 1000, ACCEPT_MS = 2000, ANSWER_MS = 60000, OUTPUT_MS = 60000 };

/* Names that the kernel shares with every C library, but does not export in its headers. */
enum { AF_UNIX = 1, SOCK_STREAM = 1, SOL_SOCKET = 1, SCM_RIGHTS = 1, SO_SNDTIMEO = 21 };
enum { SOCK_CLOEXEC = O_CLOEXEC, MSG_DONTWAIT = 0x40, MSG_NOSIGNAL = 0x4000 };
enum { SIG_BLOCK = 0, SIGPIPE_BIT = 1 << 12, CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1 };

struct socket_address { unsigned short family; char path[108]; };
struct piece { const void *start; u64 length; };
struct rights { u64 length; int level, type; int fd, padding; };
struct message {
    void *name; u32 name_length, padding;
    struct piece *pieces; u64 piece_count;
    struct rights *control; u64 control_length;
    u32 flags;
};
struct poll { int fd; short events, happened; };

static u8 frame[HEADER + ENVIRONMENT_LIMIT + STDIN_LIMIT + 1]; /* one byte more: how we see that stdin is too long */
static u8 answer[ANSWER_LIMIT];
static char found_version[16]; /* of the configuration; empty until it is found */
static const char *run_dir;

/* -- the kernel: every call gives its result, or a negative errno -- */

static __attribute__((noinline)) long kernel(long number, u64 a, u64 b, u64 c, u64 d, u64 e)
{
#if defined(__x86_64__)
    long result;
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register u64 x0 __asm__("x0") = a;
    register u64 x1 __asm__("x1") = b;
    register u64 x2 __asm__("x2") = c;
    register u64 x3 __asm__("x3") = d;
    register u64 x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return (long)x0;
#else
#error "x86-64 or aarch64"
#endif
}

#define POINTER(p) ((u64)(p))

static __attribute__((noreturn)) void leave(int code)
{
    for (;;)
        kernel(__NR_exit_group, (u64)code, 0, 0, 0, 0);
}

static long open_file(const char *path, long flags, long mode)
{
    return kernel(__NR_openat, (u64)AT_FDCWD, POINTER(path), (u64)flags, (u64)mode, 0);
}

static long clock_ns(long clock)
{
    struct __kernel_timespec now;
    kernel(__NR_clock_gettime, (u64)clock, POINTER(&now), 0, 0, 0);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static long deadline_in(long ms) { return clock_ns(CLOCK_MONOTONIC) + ms * 1000000L; }

/* Whether `fd` is ready (or broken, which the next call will tell) before the deadline. */
static int ready(long fd, short events, long deadline)
{
    struct poll poll = {(int)fd, events, 0};
    for (;;) {
        struct __kernel_timespec left = {0, 0};
        long ns = deadline - clock_ns(CLOCK_MONOTONIC);
        if (ns > 0) {
            left.tv_sec = ns / 1000000000L;
            left.tv_nsec = ns % 1000000000L;
        }
        long count = kernel(__NR_ppoll, POINTER(&poll), 1, POINTER(&left), 0, 0);
        if (count != -EINTR)
            return count > 0;
    }
}

static int again(long result) { return result == -EINTR || result == -EAGAIN; }

/* A pipe that is ready takes PIPE_BUF bytes without waiting (pipe(7)); of more it could keep us for ever. */
static int write_all(long fd, const void *data, u64 length)
{
    const u8 *at = data;
    long deadline = deadline_in(OUTPUT_MS);
    while (length) {
        if (!ready(fd, POLLOUT, deadline))
            return 0;
        long written = kernel(__NR_write, (u64)fd, POINTER(at), length < PIPE_BUF ? length : PIPE_BUF, 0, 0);
        if (again(written))
            continue;
        if (written < 0)
            return 0;
        at += written;
        length -= (u64)written;
    }
    return 1;
}

/* -- text -- */

/* The compiler may call this one to clear a struct. */
void *memset(void *to, int value, u64 length)
{
    for (u8 *at = to; length; length--)
        *at++ = (u8)value;
    return to;
}

static u64 length_of(const char *text)
{
    u64 n = 0;
    while (text[n])
        n++;
    return n;
}

static int equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* What follows `prefix` in `text`, or 0. */
static const char *after(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return 0;
    return text;
}

/* A text that grows inside fixed bounds; one that did not fit stays too long for good. */
struct text { char *start; u64 length, limit; };

static void put(struct text *to, const char *text)
{
    for (; *text; text++, to->length++)
        if (to->length + 1 < to->limit)
            to->start[to->length] = *text;
    if (to->length < to->limit)
        to->start[to->length] = 0;
}

static void put_number(struct text *to, u64 number)
{
    char digits[21], *at = digits + 20;
    for (*at = 0; number > 9; number /= 10)
        *--at = (char)('0' + number % 10);
    *--at = (char)('0' + number);
    put(to, at);
}

static int fits(const struct text *text) { return text->length < text->limit; }

/* -- answers of our own -- */

static __attribute__((noreturn)) void print_document(int exit_code, const char *body)
{
    char line[512];
    struct text out = {line, 0, sizeof line};
    put(&out, "{\"cniVersion\":\"");
    put(&out, *found_version ? found_version : "1.0.0");
    put(&out, "\",");
    put(&out, body);
    put(&out, "}\n");
    leave(write_all(1, line, out.length) ? exit_code : 1);
}

static __attribute__((noreturn)) void refuse(int code, const char *message)
{
    char body[256];
    struct text out = {body, 0, sizeof body};
    put(&out, "\"code\":");
    put_number(&out, (u64)code);
    put(&out, ",\"msg\":\"");
    put(&out, message);
    put(&out, "\"");
    print_document(1, body);
}

/* -- what the runtime gives -- */

static const char *variable(char **environment, const char *name)
{
    for (; *environment; environment++) {
        const char *value = after(*environment, name);
        if (value && *value == '=')
            return value + 1;
    }
    return 0;
}

static void put_u32(u8 *to, u32 number)
{
    for (int i = 0; i < 4; i++, number >>= 8)
        to[i] = (u8)number;
}

/* The variables CNI_*, each with its NUL, into the frame; their length. */
static u64 gather_environment(char **environment)
{
    u8 *at = frame + HEADER;
    for (; *environment; environment++) {
        const char *value = after(*environment, "CNI_");
        while (value && *value && *value != '=')
            value++;
        if (!value || !*value)
            continue;
        u64 length = length_of(*environment) + 1;
        if (length > (u64)(frame + HEADER + ENVIRONMENT_LIMIT - at))
            refuse(INVALID_ENVIRONMENT, "the variables CNI_* are longer than 64 KiB");
        for (const char *from = *environment; length; length--)
            *at++ = (u8)*from++;
    }
    return (u64)(at - frame) - HEADER;
}

enum { UNREADABLE = -1, UNFINISHED = -2, TOO_LONG = -3 };

/* All of stdin to `to`, which has room for one byte more than STDIN_LIMIT; its length, or one of the above. */
static long read_stdin(u8 *to, long ms)
{
    long length = 0, deadline = deadline_in(ms);
    while (length <= STDIN_LIMIT) {
        if (!ready(0, POLLIN, deadline))
            return UNFINISHED;
        long got = kernel(__NR_read, 0, POINTER(to + length), (u64)(STDIN_LIMIT + 1 - length), 0, 0);
        if (again(got))
            continue;
        if (got < 0)
            return UNREADABLE;
        if (!got)
            return length;
        length += got;
    }
    return TOO_LONG;
}

static const u8 *skip_space(const u8 *at, const u8 *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
        at++;
    return at;
}

/* Finds the version that the configuration names, without parsing it. */
static void find_version(const u8 *at, u64 length)
{
    static const char key[] = "\"cniVersion\"";
    const u8 *end = at + length;
    u64 matched = 0;
    for (; at < end && matched < sizeof key - 1; at++)
        matched = *at == (u8)key[matched] ? matched + 1 : *at == '"';
    if (matched < sizeof key - 1)
        return;
    at = skip_space(at, end);
    if (at == end || *at++ != ':')
        return;
    at = skip_space(at, end);
    if (at == end || *at++ != '"')
        return;
    u64 n = 0;
    while (at + n < end && n < sizeof found_version && ((at[n] >= '0' && at[n] <= '9') || (at[n] == '.' && n)))
        n++;
    if (!n || n == sizeof found_version || at + n == end || at[n] != '"')
        return;
    while (n--)
        found_version[n] = (char)at[n];
}

/* The path means something in the runtime's mount namespace only; a FIFO must not hold us up. */
static long open_netns(char **environment)
{
    const char *path = variable(environment, "CNI_NETNS");
    return path && *path ? open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0) : -ENOENT;
}

/* -- the agent -- */

enum outcome { DONE, DOWN, SLOW };

static long connect_agent(void)
{
    struct socket_address address = {.family = AF_UNIX};
    struct text path = {address.path, 0, sizeof address.path};
    put(&path, run_dir);
    put(&path, "/cni.sock");
    if (!fits(&path))
        return -ENAMETOOLONG;
    long agent = kernel(__NR_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0);
    if (agent < 0)
        return agent;
    /* With a full backlog connect(2) waits for so long; it would fail at once on a non-blocking socket. */
    struct __kernel_timespec patience = {ACCEPT_MS / 1000, 0};
    kernel(__NR_setsockopt, (u64)agent, SOL_SOCKET, SO_SNDTIMEO, POINTER(&patience), sizeof patience);
    long failed;
    do
        failed = kernel(__NR_connect, (u64)agent, POINTER(&address), sizeof address.family + path.length + 1, 0, 0);
    while (failed == -EINTR);
    return failed ? failed : agent;
}

static enum outcome send_frame(long agent, u64 length, long netns, long deadline)
{
    struct rights rights = {sizeof rights - sizeof rights.padding, SOL_SOCKET, SCM_RIGHTS, (int)netns, 0};
    struct piece rest = {frame, length};
    struct message message = {.pieces = &rest, .piece_count = 1, .control = &rights};
    if (netns >= 0)
        message.control_length = sizeof rights;
    while (rest.length) {
        if (!ready(agent, POLLOUT, deadline))
            return DOWN;
        long sent = kernel(__NR_sendmsg, (u64)agent, POINTER(&message), MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
        if (again(sent))
            continue;
        if (sent < 0)
            return DOWN;
        rest.start = (const u8 *)rest.start + sent;
        rest.length -= (u64)sent;
        message.control_length = 0; /* the descriptor went with the first byte */
    }
    return DONE;
}

static enum outcome receive(long agent, void *to, u64 length, long deadline)
{
    u8 *at = to;
    while (length) {
        if (!ready(agent, POLLIN, deadline))
            return SLOW;
        long got = kernel(__NR_read, (u64)agent, POINTER(at), length, 0, 0);
        if (again(got))
            continue;
        if (got <= 0)
            return DOWN;
        at += got;
        length -= (u64)got;
    }
    return DONE;
}

/* Sends the frame; `head` is the exit code and the length of what is then in `answer`. */
static enum outcome ask(u64 length, long netns, u32 head[2])
{
    long deadline = deadline_in(ACCEPT_MS);
    long agent = connect_agent();
    u8 accepted = 0;
    if (agent < 0 || send_frame(agent, length, netns, deadline) != DONE || receive(agent, &accepted, 1, deadline) != DONE ||
        accepted != '.')
        return DOWN;
    deadline = deadline_in(ANSWER_MS);
    enum outcome outcome = receive(agent, head, 8, deadline);
    if (outcome != DONE)
        return outcome;
    if (head[0] > 255 || head[1] > ANSWER_LIMIT)
        return DOWN;
    return receive(agent, answer, head[1], deadline);
}

/* -- a deletion that finds no agent -- */

static int make_directory(const char *path, long mode)
{
    long failed = kernel(__NR_mkdirat, (u64)AT_FDCWD, POINTER(path), (u64)mode, 0, 0);
    return !failed || failed == -EEXIST;
}

/* The agent sees a whole file or none: written under a name that starts with a dot, then renamed. */
static int lay_tombstone(u64 length)
{
    static char directory[PATH_LIMIT], temporary[PATH_LIMIT], final[PATH_LIMIT], name[48];
    struct text d = {directory, 0, PATH_LIMIT}, t = {temporary, 0, PATH_LIMIT}, f = {final, 0, PATH_LIMIT};
    struct text n = {name, 0, sizeof name};
    put(&d, run_dir), put(&d, "/tombstones");
    put_number(&n, (u64)clock_ns(CLOCK_REALTIME)), put(&n, "-"), put_number(&n, (u64)kernel(__NR_getpid, 0, 0, 0, 0, 0));
    put(&t, directory), put(&t, "/."), put(&t, name);
    put(&f, directory), put(&f, "/"), put(&f, name);
    if (!fits(&d) || !fits(&t) || !fits(&f) || !make_directory(run_dir, 0755) || !make_directory(directory, 0700))
        return 0;
    long fd = open_file(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return 0;
    if (write_all(fd, frame, length) &&
        !kernel(__NR_renameat2, (u64)AT_FDCWD, POINTER(temporary), (u64)AT_FDCWD, POINTER(final), 0))
        return 1;
    kernel(__NR_unlinkat, (u64)AT_FDCWD, POINTER(temporary), 0, 0, 0);
    return 0;
}

/* -- the call -- */

static __attribute__((noreturn)) void forward(const char *command, u64 length, long netns)
{
    u32 head[2] = {0, 0};
    enum outcome outcome = ask(length, netns, head);
    int unavailable = equal(command, "STATUS") ? NOT_AVAILABLE : TRY_AGAIN;
    if (outcome == DOWN && equal(command, "DEL")) {
        if (lay_tombstone(length))
            leave(0);
        refuse(TRY_AGAIN, "the agent of this node does not answer, and the deletion cannot be noted for it");
    }
    if (outcome == DOWN)
        refuse(unavailable, "the agent of this node does not answer");
    if (outcome == SLOW)
        refuse(unavailable, "the agent of this node did not finish within 60 s");
    if (head[0] && !head[1])
        refuse(INTERNAL, "the agent of this node failed without a reason");
    leave(write_all(1, answer, head[1]) ? (int)head[0] : 1);
}

static int is_forwarded(const char *command)
{
    return equal(command, "ADD") || equal(command, "CHECK") || equal(command, "DEL") || equal(command, "GC") ||
           equal(command, "STATUS");
}

/* Where 0, 1 or 2 is closed, a socket would take its place; opened the wrong way round, it fails as a closed one does. */
static void keep_standard_descriptors(void)
{
    for (u64 fd = 0; fd < 3; fd++)
        if (kernel(__NR_fcntl, fd, F_GETFD, 0, 0, 0) == -EBADF)
            open_file("/dev/null", fd ? O_RDONLY : O_WRONLY, 0);
}

__attribute__((noreturn, used)) void begin(u64 *stack)
{
    char **environment = (char **)(stack + stack[0] + 2); /* argc, argv, 0, environment, 0 */
    u64 pipe_broken = SIGPIPE_BIT;
    kernel(__NR_rt_sigprocmask, SIG_BLOCK, POINTER(&pipe_broken), 0, sizeof pipe_broken, 0);
    keep_standard_descriptors();

    const char *command = variable(environment, "CNI_COMMAND");
    const char *directory = variable(environment, "NETLOOM_RUN_DIR");
    run_dir = directory && *directory ? directory : "/run/netloom";
    if (!command || !*command) {
        static const char about[] = "netloom-cni is a CNI plugin: a container runtime calls it, with CNI_COMMAND in the environment.\n"
                                    "It serves the versions 0.3.1, 0.4.0, 1.0.0 and 1.1.0 of the specification.\n";
        leave(write_all(2, about, sizeof about - 1) ? 0 : 1);
    }
    if (!is_forwarded(command)) {
        long length = read_stdin(frame + HEADER, VERSION_MS);
        if (length > 0)
            find_version(frame + HEADER, (u64)length);
        if (equal(command, "VERSION"))
            print_document(0, "\"supportedVersions\":[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]");
        refuse(INVALID_ENVIRONMENT, "CNI_COMMAND is none of ADD, DEL, CHECK, GC, STATUS, VERSION");
    }

    u64 variables = gather_environment(environment);
    long length = read_stdin(frame + HEADER + variables, STDIN_MS);
    if (length == UNREADABLE)
        refuse(IO_FAILURE, "stdin cannot be read");
    if (length == UNFINISHED)
        refuse(IO_FAILURE, "stdin did not end in time");
    if (length == TOO_LONG)
        refuse(IO_FAILURE, "stdin is longer than 1 MiB");
    find_version(frame + HEADER + variables, (u64)length);

    static const u8 magic[] = {'N', 'L', 'M', '1'};
    for (u64 i = 0; i < sizeof magic; i++)
        frame[i] = magic[i];
    put_u32(frame + 4, (u32)variables);
    put_u32(frame + 8, (u32)length);
    forward(command, HEADER + variables + (u64)length, open_netns(environment));
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
#else
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl begin\n");
#endif
