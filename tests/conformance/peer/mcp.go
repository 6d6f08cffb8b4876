package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

// istio.io/api has no MCP services any more, only its Resource: requests and pushes are written and read here field
// by field (RequestResources: node 1, collection 2, versions 3, nonce 4, error 5, incremental 6; Resources: version 1,
// collection 2, resources 3, removed 4, nonce 5, incremental 6).

const (
	collection = "istio/networking/v1alpha3/serviceentries"
	sourceCall = "/istio.mcp.v1alpha1.ResourceSource/EstablishResourceStream"
)

type mcpPush struct {
	Version     string     `json:"version"`
	Nonce       string     `json:"nonce"`
	Incremental bool       `json:"incremental"`
	Resources   []resource `json:"resources"`
	Removed     []string   `json:"removed"`
}

// rawCodec hands messages over as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

type wire interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// followSource dials a ResourceSource and follows it as a sink of differences.
func followSource(connection *grpc.ClientConn, has map[string]string, pushes int, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := connection.NewStream(ctx, description, sourceCall, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return err
	}
	return followPushes(stream, has, pushes)
}

// awaitSource waits for a source that dials us, refuses its trigger, and follows it.
func awaitSource(address string, pushes int, patience time.Duration) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	serve := func(_ any, stream grpc.ServerStream) error {
		var trigger []byte
		if err := stream.RecvMsg(&trigger); err != nil {
			return err
		}
		name, err := field(trigger, 2)
		if err != nil || name != "$triggerCollection" {
			done <- fmt.Errorf("the source began with %q (%v)", name, err)
			return nil
		}
		refusal := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(codes.Unimplemented))
		answer := text(nil, 2, name)
		answer = protowire.AppendBytes(protowire.AppendTag(answer, 5, protowire.BytesType), refusal)
		if err := stream.SendMsg(&answer); err != nil {
			return err
		}
		done <- followPushes(stream, nil, pushes)
		return nil
	}
	server := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.MaxRecvMsgSize(1<<30))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "istio.mcp.v1alpha1.ResourceSink",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "EstablishResourceStream", Handler: serve, ClientStreams: true, ServerStreams: true,
		}},
	}, struct{}{})
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return fmt.Errorf("no source came, or it sent too little")
	}
}

func followPushes(stream wire, has map[string]string, pushes int) error {
	if err := ask(stream, "", has); err != nil {
		return err
	}
	for got := 0; got < pushes; got++ {
		var data []byte
		if err := stream.RecvMsg(&data); err != nil {
			return fmt.Errorf("after %d of %d pushes: %w", got, pushes, err)
		}
		read, err := readPush(data)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(read); err != nil {
			return err
		}
		if err := ask(stream, read.Nonce, nil); err != nil {
			return err
		}
	}
	return nil
}

func ask(stream wire, nonce string, has map[string]string) error {
	request := text(nil, 2, collection)
	for name, version := range has {
		entry := text(text(nil, 1, name), 2, version)
		request = protowire.AppendBytes(protowire.AppendTag(request, 3, protowire.BytesType), entry)
	}
	request = text(request, 4, nonce)
	request = protowire.AppendVarint(protowire.AppendTag(request, 6, protowire.VarintType), 1)
	return stream.SendMsg(&request)
}

func text(message []byte, number protowire.Number, value string) []byte {
	if value == "" {
		return message
	}
	return protowire.AppendString(protowire.AppendTag(message, number, protowire.BytesType), value)
}

func readPush(data []byte) (*mcpPush, error) {
	found := &mcpPush{}
	err := each(data, func(number protowire.Number, value []byte, flag uint64) error {
		switch number {
		case 1:
			found.Version = string(value)
		case 2:
			if string(value) != collection {
				return fmt.Errorf("a push of %s", value)
			}
		case 3:
			decoded, err := decode(value)
			if err != nil {
				return err
			}
			found.Resources = append(found.Resources, *decoded)
		case 4:
			found.Removed = append(found.Removed, string(value))
		case 5:
			found.Nonce = string(value)
		case 6:
			found.Incremental = flag == 1
		default:
			return fmt.Errorf("a push with field %d", number)
		}
		return nil
	})
	return found, err
}

func field(data []byte, wanted protowire.Number) (string, error) {
	found := ""
	err := each(data, func(number protowire.Number, value []byte, _ uint64) error {
		if number == wanted {
			found = string(value)
		}
		return nil
	})
	return found, err
}

func each(data []byte, take func(protowire.Number, []byte, uint64) error) error {
	for len(data) > 0 {
		number, kind, size := protowire.ConsumeTag(data)
		if size < 0 {
			return protowire.ParseError(size)
		}
		data = data[size:]
		var value []byte
		var flag uint64
		switch kind {
		case protowire.BytesType:
			value, size = protowire.ConsumeBytes(data)
		case protowire.VarintType:
			flag, size = protowire.ConsumeVarint(data)
		default:
			return fmt.Errorf("field %d has wire type %d", number, kind)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		data = data[size:]
		if err := take(number, value, flag); err != nil {
			return err
		}
	}
	return nil
}
