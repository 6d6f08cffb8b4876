package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
)

type deltaPush struct {
	Nonce     string     `json:"nonce"`
	Resources []resource `json:"resources"`
	Removed   []string   `json:"removed"`
}

// followDelta subscribes to ServiceEntries as a whole, or to those named, says what it has, and answers each push
// with an ACK. It prints one JSON line per push, until there were as many as wanted.
func followDelta(
	connection *grpc.ClientConn, names []string, has map[string]string, pushes int, patience time.Duration,
) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(connection).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	first := &discovery.DeltaDiscoveryRequest{
		TypeUrl: serviceEntry, ResourceNamesSubscribe: names, InitialResourceVersions: has,
	}
	if err := stream.Send(first); err != nil {
		return err
	}
	for got := 0; got < pushes; got++ {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("after %d of %d pushes: %w", got, pushes, err)
		}
		printed := deltaPush{Nonce: response.Nonce, Removed: response.RemovedResources}
		for _, entry := range response.Resources {
			decoded, err := decode(entry.Resource.Value)
			if err != nil {
				return err
			}
			if decoded.Name != entry.Name || decoded.Version != entry.Version {
				return fmt.Errorf("%s at %s holds %s at %s", entry.Name, entry.Version, decoded.Name, decoded.Version)
			}
			printed.Resources = append(printed.Resources, *decoded)
		}
		if err := json.NewEncoder(os.Stdout).Encode(printed); err != nil {
			return err
		}
		ack := &discovery.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce}
		if err := stream.Send(ack); err != nil {
			return err
		}
	}
	return nil
}
