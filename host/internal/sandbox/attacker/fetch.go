package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// fetch writes a line of code and text for each URL.
func fetch(urls []string) {
	client := &http.Client{Timeout: 20 * time.Second}
	for _, url := range urls {
		request, err := http.NewRequest(http.MethodGet, url, nil)
		if err == nil {
			request.Header.Set("X-Key", os.Getenv("API_KEY"))
			var answer *http.Response
			if answer, err = client.Do(request); err == nil {
				body, _ := io.ReadAll(answer.Body)
				_ = answer.Body.Close()
				fmt.Println(answer.StatusCode, strings.TrimSpace(string(body)))
				continue
			}
		}
		fmt.Println("error", err)
	}
}
