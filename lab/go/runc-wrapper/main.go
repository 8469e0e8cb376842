// Command runc-wrapper stands in front of runc on hosts without CAP_SYS_RESOURCE.
//
// There, three things that container engines ask for by default are refused by the kernel: the
// capability itself, a negative oom_score_adj, and a NOFILE limit above the hard limit. The
// wrapper takes them out of the bundle's config.json (create, run, restore) or out of the file
// given with --process (exec), and then becomes the real runc. Everything else passes unchanged.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	realRunc   = "/usr/sbin/runc.real"
	capability = "CAP_SYS_RESOURCE"
)

type object = map[string]interface{}

func main() {
	if file := specFile(os.Args[1:]); file != "" {
		if err := rewrite(file); err != nil {
			fmt.Fprintf(os.Stderr, "runc-wrapper: %s: %v\n", file, err)
			os.Exit(1)
		}
	}
	err := syscall.Exec(realRunc, append([]string{"runc"}, os.Args[1:]...), os.Environ())
	fmt.Fprintf(os.Stderr, "runc-wrapper: %s: %v\n", realRunc, err)
	os.Exit(1)
}

// specFile names the file that tells runc what to start, or "" for commands that start nothing.
func specFile(args []string) string {
	command, bundle, process := "", ".", ""
	for i, arg := range args {
		name, value := arg, ""
		if cut := strings.Index(arg, "="); cut > 0 && strings.HasPrefix(arg, "-") {
			name, value = arg[:cut], arg[cut+1:]
		} else if i+1 < len(args) {
			value = args[i+1]
		}
		switch name {
		case "create", "run", "restore", "exec":
			if command == "" {
				command = name
			}
		case "--bundle", "-bundle", "-b":
			bundle = value
		case "--process", "-process", "-p":
			process = value
		}
	}
	switch command {
	case "create", "run", "restore":
		return filepath.Join(bundle, "config.json")
	case "exec":
		return process
	}
	return ""
}

// rewrite changes the file only when something in it would be refused.
func rewrite(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec object
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber() // large numbers must come out as they went in
	if err := decoder.Decode(&spec); err != nil {
		return err
	}
	process, ok := spec["process"].(object)
	if !ok {
		process = spec // the file of --process is the process itself
	}
	if !soften(process) {
		return nil
	}
	content, err = json.Marshal(spec)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, content, info.Mode().Perm())
}

func soften(process object) bool {
	changed := false
	if sets, ok := process["capabilities"].(object); ok {
		for name, value := range sets {
			list, _ := value.([]interface{})
			kept := make([]interface{}, 0, len(list))
			for _, c := range list {
				if c != capability {
					kept = append(kept, c)
				}
			}
			if len(kept) != len(list) {
				sets[name] = kept
				changed = true
			}
		}
	}
	if number, ok := process["oomScoreAdj"].(json.Number); ok && strings.HasPrefix(string(number), "-") {
		process["oomScoreAdj"] = 0
		changed = true
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return changed
	}
	limits, _ := process["rlimits"].([]interface{})
	for _, entry := range limits {
		rlimit, _ := entry.(object)
		if rlimit["type"] != "RLIMIT_NOFILE" {
			continue
		}
		for _, key := range []string{"hard", "soft"} {
			number, ok := rlimit[key].(json.Number)
			if ok && larger(string(number), limit.Max) {
				rlimit[key] = limit.Max
				changed = true
			}
		}
	}
	return changed
}

// larger compares as decimal strings, because the value may be above what int64 holds.
func larger(number string, maximum uint64) bool {
	limit := fmt.Sprint(maximum)
	if len(number) != len(limit) {
		return len(number) > len(limit)
	}
	return number > limit
}
