// Judges resources as an API server that holds Istio's CRDs does: structural schemas and CEL.
//
// The definitions are read from the file that is named on the command line; they are those of the module istio.io/api.
// Each line of standard input is a resource as JSON. Each line of the output is "-" where it is taken, else the reason.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	_ "istio.io/api/label" // keeps the module, whose definitions are read, among the requirements
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	celbudget "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

const longestLine = 8 << 20

type judge struct {
	values     validation.SchemaCreateValidator
	structural *schema.Structural
	rules      *cel.Validator
}

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: judge CRDS.yaml < resources"))
	}
	judges, err := readJudges(os.Args[1])
	if err != nil {
		fail(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		verdict := "-"
		if err := judgeLine(judges, lines.Bytes()); err != nil {
			verdict = strings.Join(strings.Fields(err.Error()), " ")
		}
		fmt.Fprintln(out, verdict)
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}

// readJudges reads every version of every definition in the file, by "group/version/kind".
func readJudges(path string) (map[string]*judge, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	judges := map[string]*judge{}
	for _, document := range strings.Split(string(text), "\n---\n") {
		external := v1.CustomResourceDefinition{}
		if err := yaml.Unmarshal([]byte(document), &external); err != nil {
			return nil, err
		}
		if external.Kind != "CustomResourceDefinition" {
			continue
		}
		for _, version := range external.Spec.Versions {
			one, err := newJudge(version.Schema)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", external.Name, err)
			}
			judges[external.Spec.Group+"/"+version.Name+"/"+external.Spec.Names.Kind] = one
		}
	}
	return judges, nil
}

func newJudge(external *v1.CustomResourceValidation) (*judge, error) {
	internal := apiextensions.CustomResourceValidation{}
	if err := v1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(external, &internal, nil); err != nil {
		return nil, err
	}
	values, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	structural, err := schema.NewStructural(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	return &judge{values, structural, cel.NewValidator(structural, true, celbudget.PerCallLimit)}, nil
}

func judgeLine(judges map[string]*judge, line []byte) error {
	resource := map[string]any{}
	if err := utiljson.Unmarshal(line, &resource); err != nil {
		return err
	}
	version, _ := resource["apiVersion"].(string)
	kind, _ := resource["kind"].(string)
	one, found := judges[version+"/"+kind]
	if !found {
		return fmt.Errorf("no definition of %s %s", version, kind)
	}
	return one.judge(resource)
}

// judge does what the API server does with a resource that is created.
func (j *judge) judge(resource map[string]any) error {
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	unknown := pruning.PruneWithOptions(resource, j.structural, true, options)
	defaulting.PruneNonNullableNullsWithoutDefaults(resource, j.structural)
	if len(unknown) > 0 {
		text, _ := json.Marshal(unknown)
		return fmt.Errorf("unknown fields %s", text)
	}
	if errs := validation.ValidateCustomResource(nil, resource, j.values); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if errs := listtype.ValidateListSetsAndMaps(nil, j.structural, resource); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if j.rules == nil {
		return nil
	}
	errs, _ := j.rules.Validate(context.Background(), nil, j.structural, resource, nil, celbudget.RuntimeCELCostBudget)
	if len(errs) > 0 {
		return errs.ToAggregate()
	}
	return nil
}
