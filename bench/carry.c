/* What carrying a packet from one network namespace to another costs, pinned to one CPU.

       carry pingpong|packets|connections NAMESPACE NAMESPACE ADDRESS CPU MILLISECONDS

   The first namespace is the sender's, ADDRESS (port 5201) leads to the second one.  Prints how many times in a second:
     pingpong      a byte goes there and back over TCP, by two processes, as netperf's TCP_RR does it
     packets       a UDP packet of 64 bytes is sent and received, by one process that sends as many as a socket's buffer takes and
                   then collects them, so that no wake-up is measured.  One that does not arrive is an error.
     connections   a TCP connection is made and reset, by one process that has both ends  */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 5201, PACKET = 64, BATCH = 64 };

static struct sockaddr_storage there;
static socklen_t there_length;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int socket_in(const char *namespace, int type)
{
    int at = open(namespace, O_RDONLY | O_CLOEXEC), one = 1;
    if (at < 0 || setns(at, CLONE_NEWNET))
        err(1, "%s", namespace);
    close(at);
    int made = socket(there.ss_family, type, 0);
    if (made < 0)
        err(1, "socket");
    setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    return made;
}

/* To every address: what is sent to ADDRESS may come in at another one. */
static void bound(int made)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
    struct sockaddr *any = there.ss_family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    if (bind(made, any, there_length))
        err(1, "bind");
}

static void connected(int made)
{
    if (connect(made, (struct sockaddr *)&there, there_length))
        err(1, "connect");
}

static void without_delay(int stream)
{
    int one = 1;
    setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static double pingpong(const char *from, const char *to, double seconds)
{
    char byte = 0;
    int listener = socket_in(to, SOCK_STREAM);
    bound(listener);
    listen(listener, 1);
    pid_t answering = fork();
    if (!answering) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int peer = accept(listener, NULL, NULL);
        without_delay(peer);
        while (read(peer, &byte, 1) == 1 && write(peer, &byte, 1) == 1)
            ;
        _exit(0);
    }
    int stream = socket_in(from, SOCK_STREAM);
    connected(stream);
    without_delay(stream);
    long turns = 0;
    double start = now(), end = start + seconds, at = start;
    for (; at < end; at = now())
        for (int i = 0; i < 100; i++, turns++)
            if (write(stream, &byte, 1) != 1 || read(stream, &byte, 1) != 1)
                err(1, "ping-pong");
    close(stream);
    waitpid(answering, NULL, 0);
    return (double)turns / (at - start);
}

static double packets(const char *from, const char *to, double seconds)
{
    static char data[BATCH][PACKET];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH] = {0};
    int receiver = socket_in(to, SOCK_DGRAM);
    bound(receiver);
    int sender = socket_in(from, SOCK_DGRAM);
    connected(sender);
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){data[i], PACKET};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    struct timeval patience = {1, 0};
    setsockopt(receiver, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    long carried = 0;
    double start = now(), end = start + seconds, at = start;
    for (; at < end; at = now(), carried += BATCH) {
        if (sendmmsg(sender, messages, BATCH, 0) != BATCH)
            err(1, "sendmmsg");
        for (int got = 0, more; got < BATCH; got += more)
            if ((more = recvmmsg(receiver, messages, (unsigned)(BATCH - got), MSG_WAITFORONE, NULL)) <= 0)
                err(1, "a packet got lost");
    }
    return (double)carried / (at - start);
}

static void reset(int connection)
{
    struct linger hard = {1, 0};
    setsockopt(connection, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(connection);
}

static double connections(const char *from, const char *to, double seconds)
{
    int listener = socket_in(to, SOCK_STREAM);
    bound(listener);
    listen(listener, 16);
    close(socket_in(from, SOCK_STREAM));
    long made = 0;
    double start = now(), end = start + seconds, at = start;
    for (; at < end; at = now())
        for (int i = 0; i < 10; i++, made++) {
            int stream = socket(there.ss_family, SOCK_STREAM, 0);
            connected(stream);
            int peer = accept(listener, NULL, NULL);
            if (peer < 0)
                err(1, "accept");
            reset(stream);
            close(peer);
        }
    return (double)made / (at - start);
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&there;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&there;
    if (inet_pton(AF_INET, argv[4], &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET, v4->sin_port = htons(PORT), there_length = sizeof *v4;
    } else if (inet_pton(AF_INET6, argv[4], &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6, v6->sin6_port = htons(PORT), there_length = sizeof *v6;
    } else
        errx(2, "%s is no address", argv[4]);
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(argv[5]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus))
        err(1, "CPU %s", argv[5]);
    double seconds = atoi(argv[6]) / 1e3;
    double (*measure)(const char *, const char *, double) =
        !strcmp(argv[1], "packets") ? packets : !strcmp(argv[1], "connections") ? connections : pingpong;
    printf("%.1f\n", measure(argv[2], argv[3], seconds));
    return 0;
}
