// SPDX-License-Identifier: Apache-2.0

package talk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Server tells its name to everybody.
type Server struct {
	name   string
	web    net.Listener
	stream net.Listener
	packet net.PacketConn
}

// Listen opens the ports of a server: HTTP on one address, TCP and UDP on the
// other.
func Listen(name, httpAddr, echoAddr string) (*Server, error) {
	web, err := net.Listen("tcp", httpAddr)
	if err != nil {
		return nil, err
	}
	stream, err := net.Listen("tcp", echoAddr)
	if err != nil {
		web.Close()
		return nil, err
	}
	// The same number as for TCP, also when that was chosen by the kernel.
	packet, err := net.ListenPacket("udp", stream.Addr().String())
	if err != nil {
		return nil, errors.Join(err, web.Close(), stream.Close())
	}
	return &Server{name, web, stream, packet}, nil
}

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	server := http.Server{Handler: http.HandlerFunc(s.answer), ReadHeaderTimeout: patience}
	stop := context.AfterFunc(ctx, func() { server.Close(); s.stream.Close(); s.packet.Close() })
	defer stop()
	errs := make(chan error, 3)
	go func() { errs <- server.Serve(s.web) }()
	go func() { errs <- s.serveStream() }()
	go func() { errs <- s.servePacket() }()
	err := <-errs
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// What an Ingress has done to the request.
	w.Header().Set("X-Path", r.URL.Path)
	w.Header().Set("X-Host", r.Host)
	io.WriteString(w, line(s.name, peer))
}

func (s *Server) serveStream() error {
	for {
		conn, err := s.stream.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go s.talk(conn)
	}
}

func (s *Server) talk(conn net.Conn) {
	defer conn.Close()
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return
	}
	lines := bufio.NewReader(conn)
	for {
		if err := conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
			return
		}
		if _, err := lines.ReadSlice('\n'); err != nil {
			return
		}
		if _, err := io.WriteString(conn, line(s.name, peer)); err != nil {
			return
		}
	}
}

func (s *Server) servePacket() error {
	buf := make([]byte, 512)
	for {
		_, from, err := s.packet.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		peer, err := netip.ParseAddrPort(from.String())
		if err != nil {
			return err
		}
		// A client that is gone is no reason to stop.
		_, _ = s.packet.WriteTo([]byte(line(s.name, peer)), from)
	}
}
