/* The floor of the subprocess rows: vfork, exec and wait, one after the other.
 *
 * Usage: spawn COUNT PROGRAM [ARGUMENT]       only waits for the end
 *        spawn --pipe COUNT PROGRAM [ARGUMENT]  reads standard output until it closes as well
 * Prints {"us": N}, the time of one. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void start_and_wait(char **command, int with_pipe)
{
    int ends[2] = {-1, -1}, status;
    char text[4096];
    if (with_pipe && pipe2(ends, O_CLOEXEC) < 0)
        fail("pipe2");
    pid_t child = vfork();
    if (child < 0)
        fail("vfork");
    if (child == 0) {
        if (with_pipe && dup2(ends[1], STDOUT_FILENO) < 0)
            _exit(126);
        execv(command[0], command);
        _exit(127);
    }
    if (with_pipe) {
        size_t length = 0;
        ssize_t count;
        close(ends[1]);
        while ((count = read(ends[0], text, sizeof text)) > 0)
            length += count;
        close(ends[0]);
        if (length == 0)
            fail("nothing came through the pipe");
    }
    if (waitpid(child, &status, 0) != child || status != 0)
        fail("waitpid");
}

int main(int count, char **words)
{
    struct timespec before, after;
    int with_pipe = count > 1 && strcmp(words[1], "--pipe") == 0;
    if (count < 3 + with_pipe) {
        fprintf(stderr, "usage: %s [--pipe] COUNT PROGRAM [ARGUMENT]\n", words[0]);
        return 2;
    }
    int repetitions = atoi(words[1 + with_pipe]);
    char **command = words + 2 + with_pipe;
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (int at = 0; at < repetitions; at++)
        start_and_wait(command, with_pipe);
    clock_gettime(CLOCK_MONOTONIC, &after);
    double seconds = after.tv_sec - before.tv_sec + (after.tv_nsec - before.tv_nsec) * 1e-9;
    printf("{\"us\": %.3f}\n", seconds * 1e6 / repetitions);
    return 0;
}
