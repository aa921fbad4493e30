/* A tunnel as plain as can be, in the manner of Flannel's `udp`: what is read from a TUN is sent to the peer that has its target, what
   is received is written to the TUN; one packet, two system calls.  A peer for tests, and what the forwarder is measured against.

       udp_loop DEVICE ADDRESS PORT NETWORK/LENGTH=ADDRESS...

   IPv4.  DEVICE is made, up and addressed by the caller, who waits for "ready" on stdout.  Like Flannel's it believes every sender, takes
   one off the time to live, drops what has no peer, and looks at both descriptors again as long as one of them had something. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/ip.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PACKET = 1500, ROUTES = 4096 };

static struct {
    in_addr_t network, mask;
    struct sockaddr_in to;
} routes[ROUTES];
static int known;

static int open_tun(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (tun < 0)
        err(1, "/dev/net/tun");
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(tun, TUNSETIFF, &request))
        err(1, "%s", name);
    return tun;
}

static int open_udp(const char *address, int port)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (udp < 0 || inet_pton(AF_INET, address, &own.sin_addr) != 1)
        err(1, "%s", address);
    if (bind(udp, (struct sockaddr *)&own, sizeof own))
        err(1, "%s port %d", address, port);
    return udp;
}

static void add_route(char *text, int port)
{
    char *slash = strchr(text, '/'), *equals = strchr(text, '=');
    if (!slash || !equals || known == ROUTES)
        errx(2, "%s: NETWORK/LENGTH=ADDRESS", text);
    *slash = *equals = 0;
    int length = atoi(slash + 1);
    routes[known].mask = length ? htonl(~0U << (32 - length)) : 0;
    routes[known].to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, text, &routes[known].network) != 1 ||
        inet_pton(AF_INET, equals + 1, &routes[known].to.sin_addr) != 1)
        errx(2, "%s: no address", text);
    known++;
}

static const struct sockaddr_in *peer_of(in_addr_t target)
{
    for (int i = 0; i < known; i++)
        if ((target & routes[i].mask) == routes[i].network)
            return &routes[i].to;
    return NULL;
}

static int may_pass(struct iphdr *ip)
{
    if (ip->ttl <= 1)
        return 0;
    ip->ttl--;
    uint32_t sum = (uint32_t)ip->check + htons(0x0100); /* RFC 1141 */
    ip->check = (uint16_t)(sum + (sum >> 16));
    return 1;
}

static int outward(int tun, int udp)
{
    static char packet[PACKET];
    ssize_t length = read(tun, packet, sizeof packet);
    if (length < 0)
        return 0;
    struct iphdr *ip = (struct iphdr *)packet;
    const struct sockaddr_in *to;
    if (length >= (ssize_t)sizeof *ip && ip->version == 4 && (to = peer_of(ip->daddr)) && may_pass(ip))
        while (sendto(udp, packet, (size_t)length, 0, (const struct sockaddr *)to, sizeof *to) < 0 && errno == EAGAIN)
            continue;
    return 1;
}

static int inward(int udp, int tun)
{
    static char packet[PACKET];
    ssize_t length = recv(udp, packet, sizeof packet, 0);
    if (length < 0)
        return 0;
    struct iphdr *ip = (struct iphdr *)packet;
    if (length >= (ssize_t)sizeof *ip && ip->version == 4 && may_pass(ip) && write(tun, packet, (size_t)length) < 0)
        warn("write");
    return 1;
}

int main(int count, char **words)
{
    if (count < 5)
        errx(2, "udp_loop DEVICE ADDRESS PORT NETWORK/LENGTH=ADDRESS...");
    int port = atoi(words[3]), tun = open_tun(words[1]), udp = open_udp(words[2], port);
    for (int i = 4; i < count; i++)
        add_route(words[i], port);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd waiting[] = {{.fd = tun, .events = POLLIN}, {.fd = udp, .events = POLLIN}};
        if (poll(waiting, 2, -1) < 0 && errno != EINTR)
            err(1, "poll");
        while (outward(tun, udp) + inward(udp, tun))
            continue;
    }
}
