package app

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drainmark/drainmark/internal/configfile"
)

// schemaConfigCommand prints the schema of configuration files.
type schemaConfigCommand struct{}

// Run is called by kong.
func (schemaConfigCommand) Run(a *invocation) error {
	encoder := json.NewEncoder(a.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	return encoder.Encode(configSchema(a.model))
}

// schema is a JSON schema, as far as it is needed.
type schema struct {
	Schema      string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Ref         string             `json:"$ref,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Const       any                `json:"const,omitempty"`
	Default     any                `json:"default,omitempty"`
	AnyOf       []schema           `json:"anyOf,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Additional  *bool              `json:"additionalProperties,omitempty"`
}

// configSchema is what a file may have. It is made of what the command line is made of.
func configSchema(model *kong.Application) *schema {
	root := settingsSchema(model.Node, nil)
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "Configuration of Drainmark"
	common := maps.Clone(root.Properties)
	addCommands(root, model.Node, common)
	return root
}

// settingsSchema is what the mapping of a command may have, without those of the commands below it. What is as at the top
// refers to that.
func settingsSchema(node *kong.Node, common map[string]*schema) *schema {
	s := &schema{Description: node.Help, Type: "object", Properties: map[string]*schema{}, Additional: new(bool)}
	for name, flags := range settingsBelow(node) {
		of := settingSchema(flags)
		if reflect.DeepEqual(of, common[name]) {
			of = &schema{Ref: "#/properties/" + name}
		}
		s.Properties[name] = of
	}
	return s
}

// addCommands adds to the mapping of a command those of the commands below it. Where a setting has the name of a command,
// there may be either, so nothing refers to it.
func addCommands(s *schema, node *kong.Node, common map[string]*schema) {
	for _, below := range node.Children {
		delete(common, below.Name)
	}
	for _, below := range node.Children {
		if len(commandsBelow(below)) == 0 {
			continue
		}
		of := settingsSchema(below, common)
		addCommands(of, below, common)
		forms := []schema{*of, {Type: "null"}}
		if flag := s.Properties[below.Name]; flag != nil {
			forms = append(forms, *flag)
		}
		s.Properties[below.Name] = &schema{AnyOf: forms}
	}
}

// settingSchema is what the value of a setting may be, which several commands may have: what each of them takes. Where their
// words or defaults differ, the words say which are whose.
func settingSchema(all []commandFlag) *schema {
	s := valueSchema(all[0].Flag)
	words := map[string][]string{}
	defaults := map[string]bool{}
	for _, one := range all {
		words[one.Help] = append(words[one.Help], nameOf(one.of))
		defaults[one.Default] = true
	}
	if len(defaults) == 1 && all[0].HasDefault {
		s.Default = defaultOf(all[0].Flag)
	}
	for i, help := range slices.Sorted(maps.Keys(words)) {
		if i > 0 {
			s.Description += "\n"
		}
		if len(words) > 1 {
			s.Description += strings.Join(words[help], ", ") + ": "
		}
		s.Description += help
	}
	return s
}

// These are texts that stand for something else: what has a variable or is not set, a time, and a size.
const (
	variablePattern = `^$|\$\{`
	timePattern     = `^-?([0-9.]+(ns|us|µs|ms|s|m|h))+$`
	sizePattern     = `^-?[0-9]+ ?([kKmMgGtT][iI]?)?[bB]?$`
)

// valueSchema is what the value of a flag may be: as it is, or with a variable, and if it is repeated, also a list.
func valueSchema(flag *kong.Flag) *schema {
	var forms []schema
	of := elementOf(flag)
	for _, kind := range kinds(flag) {
		switch kind {
		case configfile.Bool:
			forms = append(forms, schema{Type: "boolean"})
		case configfile.Integer:
			if of == reflect.TypeFor[time.Duration]() {
				forms = append(forms, schema{Const: json.Number("0")})
				continue
			}
			forms = append(forms, schema{Type: "integer"})
		case configfile.Number:
			return anyOf(append(forms, schema{Type: "number"}), flag)
		case configfile.Text:
			forms = append(forms, textSchema(flag, of))
		}
	}
	return anyOf(forms, flag)
}

// textSchema is what a text for a flag may be.
func textSchema(flag *kong.Flag, of reflect.Type) schema {
	choices := strings.Split(flag.PlaceHolder, "|")
	switch {
	case flag.Enum != "":
		return schema{Enum: flag.EnumSlice()}
	case len(choices) > 1:
		return schema{Enum: choices}
	case of == reflect.TypeFor[time.Duration]():
		return schema{Type: "string", Pattern: timePattern}
	case of == reflect.TypeFor[size]():
		return schema{Type: "string", Pattern: sizePattern}
	}
	return schema{Type: "string"}
}

// anyOf joins the forms that a value may have.
func anyOf(forms []schema, flag *kong.Flag) *schema {
	if !slices.ContainsFunc(forms, func(s schema) bool { return s.Type == "string" && s.Pattern == "" }) {
		forms = append(forms, schema{Type: "string", Pattern: variablePattern})
	}
	one := schema{AnyOf: forms}
	if len(forms) == 1 {
		one = forms[0]
	}
	if !flag.IsSlice() {
		return &one
	}
	return &schema{AnyOf: []schema{{Type: "array", Items: &one}, one}}
}

// number is a default that is a number in a file.
var number = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// defaultOf returns a default as a file has it.
func defaultOf(flag *kong.Flag) any {
	switch forms := kinds(flag); {
	case flag.IsSlice():
		return []string{flag.Default}
	case forms[0] == configfile.Bool:
		value, _ := strconv.ParseBool(flag.Default)
		return value
	case number.MatchString(flag.Default) && slices.Contains(forms, configfile.Integer):
		return json.Number(flag.Default)
	}
	return flag.Default
}
