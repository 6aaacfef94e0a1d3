package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// clockBlock is how far the clock may differ from that of an NTP server.
type clockBlock struct {
	Server  string `json:"server"`
	MaxSkew string `json:"max_skew"`
}

func (b clockBlock) check() (*check, error) {
	most, err := duration("max_skew", b.MaxSkew, time.Second)
	if err != nil {
		return nil, err
	}
	address := b.Server
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(address, "123")
	}
	c := &check{expected: fmt.Sprintf("at most %v from %s", most, b.Server), remedy: "see whether the time service runs, such as `timedatectl`"}
	c.failing = func(ctx context.Context) (string, error) {
		skew, err := askNTP(ctx, address)
		if err != nil {
			return "", err
		}
		if skew.Abs() > most {
			return fmt.Sprintf("the clock differs from %s by %v; expected is at most %v", b.Server, skew.Round(time.Millisecond), most), nil
		}
		return "", nil
	}
	return c, nil
}

// An SNTP packet, RFC 4330: 48 bytes, with four times in seconds since 1900.
const (
	ntpPacket   = 48
	ntpVersion4 = 4 << 3
	ntpClient   = 3
	ntpServer   = 4
	ntpReceived = 32 // offsets
	ntpSent     = 40
	// ntpEpoch is 1970 in seconds since 1900.
	ntpEpoch = 2208988800
)

// askNTP returns how far the server's clock is ahead of ours.
func askNTP(ctx context.Context, address string) (time.Duration, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // a datagram socket
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return 0, err
		}
	}
	packet := make([]byte, ntpPacket)
	packet[0] = ntpVersion4 | ntpClient
	begin := time.Now()
	putNTP(packet[ntpSent:], begin)
	cookie := string(packet[ntpSent:])
	if _, err := conn.Write(packet); err != nil {
		return 0, err
	}
	n, err := conn.Read(packet)
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	const originated = 24
	if n < ntpPacket || packet[0]&7 != ntpServer || packet[1] == 0 || string(packet[originated:originated+8]) != cookie {
		return 0, errors.New("the server's answer is not one to our question")
	}
	received, sent := ntpTime(packet[ntpReceived:]), ntpTime(packet[ntpSent:])
	return (received.Sub(begin) + sent.Sub(begin.Add(took))) / 2, nil
}

func putNTP(b []byte, t time.Time) {
	binary.BigEndian.PutUint32(b, uint32(t.Unix()+ntpEpoch)) // wraps in 2036, on both sides
	binary.BigEndian.PutUint32(b[4:], uint32(int64(t.Nanosecond())<<32/int64(time.Second)))
}

// ntpTime reads a time of the era that is nearest to ours.
func ntpTime(b []byte) time.Time {
	seconds := int64(binary.BigEndian.Uint32(b)) - ntpEpoch
	const era = int64(1) << 32
	if seconds < 0 {
		seconds += era
	}
	return time.Unix(seconds, int64(binary.BigEndian.Uint32(b[4:]))*int64(time.Second)>>32)
}
