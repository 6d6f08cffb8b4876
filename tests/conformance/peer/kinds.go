package main

// Every kind of configuration, with every field set: whether two sets of definitions mean the same.

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	extensions "istio.io/api/extensions/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1beta1 "istio.io/api/networking/v1beta1"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
)

// variants: each choice of a oneof is set in one of them.
const variants = 12

var kinds = map[string]proto.Message{
	"VirtualService":        &networking.VirtualService{},
	"DestinationRule":       &networking.DestinationRule{},
	"Gateway":               &networking.Gateway{},
	"ServiceEntry":          &networking.ServiceEntry{},
	"Sidecar":               &networking.Sidecar{},
	"EnvoyFilter":           &networking.EnvoyFilter{},
	"WorkloadEntry":         &networking.WorkloadEntry{},
	"WorkloadGroup":         &networking.WorkloadGroup{},
	"ProxyConfig":           &networkingv1beta1.ProxyConfig{},
	"PeerAuthentication":    &security.PeerAuthentication{},
	"RequestAuthentication": &security.RequestAuthentication{},
	"AuthorizationPolicy":   &security.AuthorizationPolicy{},
	"Telemetry":             &telemetry.Telemetry{},
	"WasmPlugin":            &extensions.WasmPlugin{},
}

// printFilled writes "KIND BASE64" for each kind and variant.
func printFilled() {
	for name, kind := range kinds {
		for variant := 0; variant < variants; variant++ {
			message := proto.Clone(kind)
			fill(message.ProtoReflect(), variant, 0)
			fmt.Println(name, encode(message))
		}
	}
}

// printBack decodes each "KIND BASE64" of the input and writes it again; a field that Istio does not know is fatal.
func printBack() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		raw, err := base64.StdEncoding.DecodeString(text)
		fatal(err)
		message := proto.Clone(kinds[name])
		fatal(proto.Unmarshal(raw, message))
		fatal(unknown(message.ProtoReflect()))
		fmt.Println(name, encode(message))
	}
}

func encode(message proto.Message) string {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	fatal(err)
	return base64.StdEncoding.EncodeToString(raw)
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func unknown(message protoreflect.Message) error {
	if len(message.GetUnknown()) > 0 {
		return fmt.Errorf("%s has unknown fields", message.Descriptor().FullName())
	}
	var found error
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, inner protoreflect.Value) bool {
					found = unknown(inner.Message())
					return found == nil
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < value.List().Len() && found == nil; i++ {
				found = unknown(value.List().Get(i).Message())
			}
		default:
			found = unknown(value.Message())
		}
		return found == nil
	})
	return found
}

func fill(message protoreflect.Message, variant, depth int) {
	fields := message.Descriptor().Fields()
	for i := 0; i < fields.Len(); i++ {
		field := fields.Get(i)
		if oneof := field.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
			if oneof.Fields().Get(variant%oneof.Fields().Len()) != field {
				continue
			}
		}
		if field.Message() != nil && depth > 12 {
			continue
		}
		switch {
		case field.IsMap():
			entries := message.Mutable(field).Map()
			value := entries.NewValue()
			if field.MapValue().Message() != nil {
				fill(value.Message(), variant, depth+1)
			} else {
				value = scalar(field.MapValue(), variant)
			}
			entries.Set(scalar(field.MapKey(), variant).MapKey(), value)
		case field.IsList():
			list := message.Mutable(field).List()
			if field.Message() != nil {
				fill(list.AppendMutable().Message(), variant, depth+1)
			} else {
				list.Append(scalar(field, variant))
			}
		case field.Message() != nil:
			fill(message.Mutable(field).Message(), variant, depth+1)
		default:
			message.Set(field, scalar(field, variant))
		}
	}
}

func scalar(field protoreflect.FieldDescriptor, variant int) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("text")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("bytes"))
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1 - variant%values.Len()).Number())
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(1.5)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1.5)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(7)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(7)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(7)
	default:
		return protoreflect.ValueOfUint64(7)
	}
}
