/* A peer without fdpass: sends or receives one byte of data and one int, over the socket on descriptor 0.
 *
 *   classic send FILE   opens FILE, reads its first 6 bytes, sends the descriptor
 *   classic recv        receives a descriptor, prints the rest of its file
 *
 * Exit codes: 0 done, 1 a call failed, 2 the message is not one byte and one descriptor.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHANNEL 0

union control {
    struct cmsghdr header; /* for its alignment */
    char room[CMSG_SPACE(sizeof(int))];
};

static void prepare(struct msghdr *message, struct iovec *data, char *byte, union control *control)
{
    memset(message, 0, sizeof *message);
    memset(control, 0, sizeof *control);
    data->iov_base = byte;
    data->iov_len = 1;
    message->msg_iov = data;
    message->msg_iovlen = 1;
    message->msg_control = control->room;
    message->msg_controllen = sizeof control->room;
}

static int failed(const char *what)
{
    perror(what);
    return 1;
}

static int send_one(const char *path)
{
    struct msghdr message;
    struct iovec data;
    union control control;
    char byte = '!', skipped[6];
    int fd = open(path, O_RDONLY);

    if (fd < 0 || read(fd, skipped, sizeof skipped) != sizeof skipped)
        return failed(path);
    prepare(&message, &data, &byte, &control);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(CHANNEL, &message, 0) == 1 ? 0 : failed("sendmsg");
}

static int receive_one(void)
{
    struct msghdr message;
    struct iovec data;
    union control control;
    char byte = 0, text[4096];
    ssize_t length;
    int fd;

    prepare(&message, &data, &byte, &control);
    if (recvmsg(CHANNEL, &message, 0) != 1)
        return failed("recvmsg");
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (byte != '!' || (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) || header == NULL
        || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS
        || header->cmsg_len != CMSG_LEN(sizeof fd) || CMSG_NXTHDR(&message, header) != NULL)
        return 2;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    while ((length = read(fd, text, sizeof text)) > 0)
        if (write(STDOUT_FILENO, text, (size_t)length) != length)
            return failed("write");
    return length == 0 ? 0 : failed("read");
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "send") == 0)
        return send_one(argv[2]);
    if (argc == 2 && strcmp(argv[1], "recv") == 0)
        return receive_one();
    fputs("usage: classic send FILE | classic recv\n", stderr);
    return 1;
}
