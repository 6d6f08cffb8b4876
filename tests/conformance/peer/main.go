// An independent client of a gateway: istio.io/api's and go-control-plane's own types, none of shiplog's.
// What it decodes is what a Pilot decodes.
//
//	peer -address HOST:PORT -pushes N [-delta] [-names A,B] [-has NAME=VERSION,...]
//	peer -address HOST:PORT -pushes N -mcp [-has NAME=VERSION,...]
//	peer -address HOST:PORT -pushes N -sink
//	peer -filled | -back
//
// It asks for every type that istiod asks for, as istiod does (made-up nonces first), answers each push with an
// ACK, and prints one JSON line per push. Unknown fields in a body are an error.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	mcp "istio.io/api/mcp/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
)

const serviceEntry = "networking.istio.io/v1/ServiceEntry"

var types = []string{
	"core/v1alpha1/MeshConfig",
	"networking.istio.io/v1/DestinationRule", "networking.istio.io/v1/Gateway", serviceEntry,
	"networking.istio.io/v1/Sidecar", "networking.istio.io/v1/VirtualService",
	"networking.istio.io/v1/WorkloadEntry", "networking.istio.io/v1/WorkloadGroup",
	"networking.istio.io/v1alpha3/EnvoyFilter", "networking.istio.io/v1beta1/ProxyConfig",
	"security.istio.io/v1/AuthorizationPolicy", "security.istio.io/v1/PeerAuthentication",
	"security.istio.io/v1/RequestAuthentication", "telemetry.istio.io/v1/Telemetry",
	"extensions.istio.io/v1alpha1/WasmPlugin", "extensions.istio.io/v1alpha1/TrafficExtension",
}

type resource struct {
	Name       string          `json:"name"`
	Version    string          `json:"version"`
	CreateTime int64           `json:"create_time"`
	Body       json.RawMessage `json:"body"`
	RoundTrips bool            `json:"round_trips"`
}

type push struct {
	TypeURL   string     `json:"type_url"`
	Version   string     `json:"version"`
	Nonce     string     `json:"nonce"`
	Resources []resource `json:"resources"`
}

func main() {
	address := flag.String("address", "127.0.0.1:9901", "the gateway")
	pushes := flag.Int("pushes", 1, "end after so many pushes of ServiceEntry")
	patience := flag.Duration("patience", 30*time.Second, "end after this time")
	delta := flag.Bool("delta", false, "speak Delta ADS, and ask for ServiceEntries only")
	names := flag.String("names", "", "with -delta: the resources to subscribe to; none: all")
	has := flag.String("has", "", "with -delta and -mcp: what we have, as NAME=VERSION,...")
	source := flag.Bool("mcp", false, "speak MCP as a sink of differences, and ask for ServiceEntries only")
	sink := flag.Bool("sink", false, "listen at the address, and wait for an MCP source that dials")
	filled := flag.Bool("filled", false, "print every kind of configuration with every field set, and end")
	back := flag.Bool("back", false, "read such lines, decode them and print them again, and end")
	flag.Parse()
	switch {
	case *filled:
		printFilled()
		return
	case *back:
		printBack()
		return
	}
	connection, err := dial(*address)
	if err == nil {
		switch {
		case *sink:
			err = awaitSource(*address, *pushes, *patience)
		case *source:
			err = followSource(connection, versions(*has), *pushes, *patience)
		case *delta:
			err = followDelta(connection, list(*names), versions(*has), *pushes, *patience)
		default:
			err = follow(connection, *pushes, *patience)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func versions(text string) map[string]string {
	found := map[string]string{}
	for _, pair := range list(text) {
		name, version, _ := strings.Cut(pair, "=")
		found[name] = version
	}
	return found
}

func follow(connection *grpc.ClientConn, pushes int, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(connection).StreamAggregatedResources(ctx)
	if err != nil {
		return err
	}
	for _, name := range types {
		madeUp := time.Now().Format(time.RFC3339Nano)
		if err := stream.Send(&discovery.DiscoveryRequest{TypeUrl: name, ResponseNonce: madeUp}); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for got := 0; got < pushes || len(seen) < len(types)-1; {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("after answers to %d of %d types: %w", len(seen), len(types)-1, err)
		}
		if response.TypeUrl == "core/v1alpha1/MeshConfig" {
			return fmt.Errorf("MeshConfig was answered")
		}
		seen[response.TypeUrl] = true
		if response.TypeUrl == serviceEntry {
			got++
		}
		if err := report(response); err != nil {
			return err
		}
		ack := &discovery.DiscoveryRequest{
			TypeUrl: response.TypeUrl, VersionInfo: response.VersionInfo, ResponseNonce: response.Nonce,
		}
		if err := stream.Send(ack); err != nil {
			return err
		}
	}
	return nil
}

func report(response *discovery.DiscoveryResponse) error {
	printed := push{TypeURL: response.TypeUrl, Version: response.VersionInfo, Nonce: response.Nonce}
	for _, entry := range response.Resources {
		decoded, err := decode(entry.Value)
		if err != nil {
			return err
		}
		printed.Resources = append(printed.Resources, *decoded)
	}
	return json.NewEncoder(os.Stdout).Encode(printed)
}

func decode(value []byte) (*resource, error) {
	wrapped := &mcp.Resource{}
	if err := proto.Unmarshal(value, wrapped); err != nil {
		return nil, fmt.Errorf("not an mcp.Resource: %w", err)
	}
	entry := &networking.ServiceEntry{}
	if err := wrapped.Body.UnmarshalTo(entry); err != nil {
		return nil, fmt.Errorf("%s: not a ServiceEntry: %w", wrapped.Metadata.Name, err)
	}
	if unknown := len(entry.ProtoReflect().GetUnknown()); unknown > 0 {
		return nil, fmt.Errorf("%s: %d bytes that istio.io/api does not know", wrapped.Metadata.Name, unknown)
	}
	body, err := protojson.Marshal(entry)
	if err != nil {
		return nil, err
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(entry)
	if err != nil {
		return nil, err
	}
	return &resource{
		Name:       wrapped.Metadata.Name,
		Version:    wrapped.Metadata.Version,
		CreateTime: wrapped.Metadata.CreateTime.GetSeconds(),
		Body:       body,
		RoundTrips: string(again) == string(wrapped.Body.Value),
	}, nil
}
