/* Calls a CNI plugin, or a chain of them, for many containers, as libcni does, and measures each call: from before the first one's
   pipes are made until the last one is reaped.

       driver ADD|DEL PLUGIN[,PLUGIN...] CONFIGURATION[,CONFIGURATION...] FOLDER FIRST COUNT AT_ONCE

   Container i is called b<i>; its namespace is FOLDER/netns/b<i>, and where its configuration says "PORT" it gets 20000 + i.  Each ADD
   gets what the one before it in the chain has printed as prevResult; the last one's is kept in FOLDER/results/b<i>, and all DELs, in
   reverse order, get that.  Prints a line per call, its nanoseconds; then a line with those of the whole.  Ends with 1 when a call
   fails. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DOCUMENT = 64 << 10, MOST = 10000, CHAIN = 4, FIRST_PORT = 20000 };

static const char *command, *folder;
static int adding;
static struct {
    const char *plugin;
    char configuration[DOCUMENT];
} chain[CHAIN];
static int links;
static int first, count;
static atomic_int next_one, failed;
static long elapsed[MOST];

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static size_t read_all(int fd, char *to)
{
    size_t length = 0;
    ssize_t got;
    while (length < DOCUMENT - 1 && (got = read(fd, to + length, DOCUMENT - 1 - length)) > 0)
        length += (size_t)got;
    to[length] = 0;
    return length;
}

static size_t read_file(const char *path, char *to)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = fd < 0 ? 0 : read_all(fd, to);
    close(fd);
    return length;
}

static void keep(const char *path, const char *text, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, length) != (ssize_t)length)
        failed = 1;
    close(fd);
}

/* The plugin's exit code; what it prints is put into `output`. */
static int run(const char *plugin, char *const environment[], const char *input, size_t input_length, char *output, size_t *output_length)
{
    int in[2], out[2], status;
    pid_t child;
    posix_spawn_file_actions_t actions;
    char *const arguments[] = {(char *)plugin, NULL};
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    int error = posix_spawn(&child, plugin, &actions, NULL, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    if (!error && write(in[1], input, input_length) != (ssize_t)input_length)
        error = 1;
    close(in[1]);
    *output_length = read_all(out[0], output);
    close(out[0]);
    if (error || waitpid(child, &status, 0) != child)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Writes what one of the chain gets on stdin; its length. */
static size_t compose(const char *configuration, int i, const char *result, char *to)
{
    static const char mark[] = "\"PORT\"";
    char *end = to;
    for (const char *at; (at = strstr(configuration, mark)); configuration = at + sizeof mark - 1)
        end += sprintf(end, "%.*s%d", (int)(at - configuration), configuration, FIRST_PORT + i);
    strcpy(end, configuration);
    if (*result)
        sprintf(strrchr(end, '}'), ",\"prevResult\":%s}", result);
    return strlen(to);
}

static void call(int i, char *input, char *output, char *result)
{
    char id[64], namespace[512], pod[256], path[512];
    char *const environment[] = {
        adding ? "CNI_COMMAND=ADD" : "CNI_COMMAND=DEL",
        id, namespace, pod, "CNI_IFNAME=eth0", "CNI_PATH=/usr/lib/cni", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        getenv("NETLOOM_RUN_DIR") - strlen("NETLOOM_RUN_DIR="), NULL,
    };
    snprintf(id, sizeof id, "CNI_CONTAINERID=b%d", i);
    snprintf(namespace, sizeof namespace, "CNI_NETNS=%s/netns/b%d", folder, i);
    snprintf(pod, sizeof pod, "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=pod-%d;K8S_POD_INFRA_CONTAINER_ID=b%d", i, i);
    snprintf(path, sizeof path, "%s/results/b%d", folder, i);
    *result = 0;
    if (!adding)
        read_file(path, result);
    long start = now();
    int code = 0;
    for (int k = 0; k < links && !code; k++) {
        int link = adding ? k : links - 1 - k;
        size_t length = compose(chain[link].configuration, i, result, input);
        size_t printed;
        code = run(chain[link].plugin, environment, input, length, output, &printed);
        if (adding && !code)
            memcpy(result, output, printed + 1);
    }
    elapsed[i - first] = now() - start;
    if (code) {
        fprintf(stderr, "%s of b%d: %d %s\n", command, i, code, output);
        failed = 1;
    } else if (adding)
        keep(path, result, strlen(result));
}

static void *work(void *nothing)
{
    char *input = malloc(3 * DOCUMENT), *output = malloc(DOCUMENT), *result = malloc(DOCUMENT);
    for (int i; (i = atomic_fetch_add(&next_one, 1)) < count;)
        call(first + i, input, output, result);
    free(input);
    free(output);
    free(result);
    return nothing;
}

int main(int argc, char **argv)
{
    if (argc != 8 || !getenv("NETLOOM_RUN_DIR"))
        return 2;
    command = argv[1], folder = argv[4];
    adding = !strcmp(command, "ADD");
    char *plugins, *configurations;
    for (const char *one = strtok_r(argv[2], ",", &plugins), *file = strtok_r(argv[3], ",", &configurations); one && file && links < CHAIN;
         one = strtok_r(NULL, ",", &plugins), file = strtok_r(NULL, ",", &configurations)) {
        chain[links].plugin = one;
        if (!read_file(file, chain[links++].configuration))
            return 2;
    }
    first = atoi(argv[5]), count = atoi(argv[6]);
    int at_once = atoi(argv[7]);
    if (!links || count > MOST)
        return 2;
    pthread_t *threads = calloc((size_t)at_once, sizeof *threads);
    long start = now();
    for (int i = 0; i < at_once; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < at_once; i++)
        pthread_join(threads[i], NULL);
    long whole = now() - start;
    for (int i = 0; i < count; i++)
        printf("%ld\n", elapsed[i]);
    printf("%ld\n", whole);
    return failed;
}
