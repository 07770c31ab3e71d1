/* A program for `fdpass keep` without any library: it stores the connection that it has accepted, crashes, and
 * answers on the connection after its restart. */

#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void notify(const char *state, int fd)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof fd)];
    } control = { 0 };
    struct iovec part = { (void *)state, strlen(state) };
    struct msghdr message = { .msg_name = &address, .msg_namelen = size, .msg_iov = &part, .msg_iovlen = 1 };
    int sock = socket(AF_UNIX, SOCK_DGRAM, 0);

    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = 0;
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control.space;
        control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd) };
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    if (sendmsg(sock, &message, 0) < 0) {
        perror("sendmsg");
        exit(1);
    }
    close(sock);
}

static void barrier(void)
{
    int ends[2];
    char byte;

    if (pipe(ends) < 0)
        exit(1);
    notify("BARRIER=1", ends[1]);
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 0)
        exit(1);
    close(ends[0]);
}

int main(void)
{
    char question[100];
    ssize_t size;

    if (atoi(getenv("LISTEN_PID")) != getpid())
        return 1;
    printf("start %d %s\n", getpid(), getenv("LISTEN_FDNAMES"));
    fflush(stdout);
    notify("READY=1\nSTATUS=in C", -1);
    if (atoi(getenv("LISTEN_FDS")) == 1) {
        int connection = accept(3, NULL, NULL);
        notify("FDSTORE=1\nFDNAME=connection", connection);
        barrier();
        abort();
    }
    size = read(4, question, sizeof question);
    if (size < 0 || write(4, question, size) != size)
        return 1;
    shutdown(4, SHUT_RDWR);
    notify("FDSTOREREMOVE=1\nFDNAME=connection", -1);
    barrier();
    return 0;
}
