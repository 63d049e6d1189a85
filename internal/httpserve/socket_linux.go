package httpserve

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// handshakeTime is how long a client gets to complete a connection that it has begun. On a busy machine its
	// packets may be lost once, and sent again.
	handshakeTime = time.Second
	// acceptTime is how long accepting the last connections may take. When a limit of connections is reached, they wait.
	acceptTime = 5 * time.Second
)

// noSYN drops what begins a connection, and lets everything else pass: it looks at the TCP header's flags.
var noSYN = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},               // SYN and ACK
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jt: 0, Jf: 1}, // SYN alone
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
}

// refuse makes the system begin no more connections, and waits until those that clients have made are accepted. The
// system resets what waits to be accepted when a listener is closed, although a request may have been sent on it.
// A client that tries to connect meanwhile does so again after a second, and is then refused.
func refuse(ctx context.Context, l net.Listener) {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	_ = keepAway(raw) // where it is not allowed, only what connects in this moment is in danger
	ctx, cancel := context.WithTimeout(ctx, acceptTime)
	defer cancel()
	wait := time.NewTimer(handshakeTime)
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		if waiting(raw) == 0 {
			return
		}
		wait.Reset(drainTick)
	}
}

// keepAway makes the system drop the first packet of new connections.
func keepAway(raw syscall.RawConn) (err error) {
	program := unix.SockFprog{Len: uint16(len(noSYN)), Filter: &noSYN[0]}
	controlled := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	})
	return errors.Join(controlled, err)
}

// waiting returns how many connections wait to be accepted.
func waiting(raw syscall.RawConn) (n uint32) {
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = info.Unacked // of a socket that listens
		}
	})
	return n
}

// readNow reads what has arrived, and returns io.EOF if that is nothing.
func readNow(c net.Conn, p []byte) (n int, err error) {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return 0, io.EOF
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), p)
		return true
	})
	if failed != nil || err != nil || n <= 0 {
		return 0, io.EOF
	}
	return n, nil
}
