/* The C contender of passing.py: the same messages, sent and received by loops without Python.
 *
 * Built by the benchmark as a shared library. Both functions return 0, or an errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FDS 253
#define BUFSIZE 65536

union control {
    char room[CMSG_SPACE(sizeof(int) * MAX_FDS)];
    struct cmsghdr align;
};

int send_messages(int sock, const int *fds, int count, long messages)
{
    union control control;
    char data = 'x';
    struct iovec part = {&data, 1};

    while (messages-- > 0) {
        struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room,
                                .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
        while (sendmsg(sock, &header, 0) < 0) {
            if (errno != ETOOMANYREFS && errno != EINTR)
                return errno;
            usleep(100); /* in flight over the user's limit: the receiver makes room */
        }
    }
    return 0;
}

static int receive(int sock, int count, long messages, int in_row)
{
    static char data[BUFSIZE];
    union control control;
    struct iovec part = {data, sizeof data};

    while (messages-- > 0) {
        struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room,
                                .msg_controllen = sizeof control.room};
        int fds[MAX_FDS];
        if (recvmsg(sock, &header, MSG_CMSG_CLOEXEC) <= 0)
            return errno ? errno : EPIPE;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        if (!rights || rights->cmsg_type != SCM_RIGHTS || rights->cmsg_len != CMSG_LEN(sizeof(int) * count))
            return EBADMSG;
        memcpy(fds, CMSG_DATA(rights), sizeof(int) * count);
        if (in_row && fds[count - 1] - fds[0] == count - 1)
            close_range(fds[0], fds[count - 1], 0);
        else
            for (int i = 0; i < count; i++)
                close(fds[i]);
    }
    return 0;
}

int receive_and_close_each(int sock, const int *fds, int count, long messages)
{
    (void)fds; /* the sender's signature */
    return receive(sock, count, messages, 0);
}

int receive_and_close_row(int sock, const int *fds, int count, long messages)
{
    (void)fds;
    return receive(sock, count, messages, 1);
}
